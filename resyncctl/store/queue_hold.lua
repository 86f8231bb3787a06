-- Renew or hand on deliveries that are still ours; what another worker has by now is left alone.
-- KEYS[1] stream · ARGV[1] group · ARGV[2] the consumer that has them · ARGV[3] the consumer that gets them
-- ARGV[4] idle time in milliseconds that they have from now on · ARGV[5] what is added to their count of deliveries · ARGV[6…] IDs
-- Returns the IDs that were ours.
local held = {}
for place = 6, #ARGV do
  local id = ARGV[place]
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if #found > 0 then
    local count = math.max(0, found[1][4] + tonumber(ARGV[5]))
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, id, 'IDLE', ARGV[4], 'RETRYCOUNT', count, 'JUSTID')
    held[#held + 1] = id
  end
end
return held
