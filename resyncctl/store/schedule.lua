-- Write or remove a schedule if it is still what the caller saw. KEYS: schedules.
-- ARGV: name, the JSON that the caller saw ('' = there was none), the new JSON ('' = remove it).
-- Answer: how many changes there have been, counted in the field '#'; 0 when it is something else by now.
local known = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if known ~= ARGV[2] then
  return 0
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return redis.call('HINCRBY', KEYS[1], '#', 1)
