-- Remove consumers that have nothing and never will: one that leaves, and those that have been silent for long.
-- KEYS[1] stream · ARGV[1] group · ARGV[2] the consumer that leaves · ARGV[3] milliseconds of silence after which one is dead
-- Returns how many were removed. One with pending deliveries stays: they would be lost with it.
local removed = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for place = 1, #fields, 2 do
    consumer[fields[place]] = fields[place + 1]
  end
  local gone = consumer.name == ARGV[2] or consumer.idle > tonumber(ARGV[3])
  if gone and consumer.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    removed = removed + 1
  end
end
return removed
