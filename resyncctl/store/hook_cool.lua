-- When cool-downs of a hook end. This stands in front of hook_call.lua and hook_take.lua.
-- The sorted set `sent` has when was sent to: '=NAME' that phone, '@USER' some phone of that user, 'all' all, 'any' any.
local function sent_at(sent, member)
  return tonumber(redis.call('ZSCORE', sent, member) or 0)
end

local function cool_until(sent, cool, name)
  if cool == 0 then
    return 0
  end
  local at = sent_at(sent, 'any')
  if name then
    local user = string.match(name, '^([^@]*)@')
    at = math.max(sent_at(sent, 'all'), sent_at(sent, '=' .. name), sent_at(sent, user and '=' .. user or '@' .. name))
  end
  return at > 0 and at + cool or 0
end

local function us(number)
  return string.format('%.0f', number)
end

