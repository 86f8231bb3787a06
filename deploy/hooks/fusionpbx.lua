-- FusionPBX / FreeSWITCH: tell a hook of resyncctl that phones have changed.
--
--   luarun resyncctl.lua            all phones (fs_cli; the end of a script that writes provisioning data)
--   luarun resyncctl.lua 1001 1002  these
--   as a hook on RELOADXML (lua.conf.xml), which "Reload XML" fires: all phones
--
-- FusionPBX fires nothing when a device is saved. README.md in this folder says how to install it. Settings are global
-- variables (vars.xml) or, without them, these:
local settings = {
  resyncctl_hook_url = "http://127.0.0.1:8420/v1/hooks/fusionpbx",
  resyncctl_hook_script = "/etc/resyncctl-hook/curl.sh", -- the one of this folder
  resyncctl_hook_secret_file = "/etc/resyncctl-hook/secret", -- readable by the user of FreeSWITCH
}
for name in pairs(settings) do
  local value = freeswitch.getGlobalVariable(name)
  if value and value ~= "" then
    settings[name] = value
  end
end

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local words = { "RESYNCCTL_SECRET_FILE=" .. quoted(settings.resyncctl_hook_secret_file), "sh",
  quoted(settings.resyncctl_hook_script), quoted(settings.resyncctl_hook_url) }
for _, extension in ipairs(argv or {}) do
  words[#words + 1] = quoted(extension) -- curl.sh refuses what is no extension
end
-- In the background: FreeSWITCH waits for nobody.
os.execute(table.concat(words, " ") .. " </dev/null >/dev/null 2>&1 &")
freeswitch.consoleLog("INFO", "resyncctl: hook " .. settings.resyncctl_hook_url .. " is being told\n")
