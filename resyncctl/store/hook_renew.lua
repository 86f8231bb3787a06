-- Keep a claim on what is being launched, or put the next try off. KEYS: due times, launching, last.
-- ARGV: hook, token, until in us, note or ''. Answer: 1, or 0 when somebody else has it or it is done.
if redis.call('HGET', KEYS[2], 'token') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[2], 'until', ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[3], 'note', ARGV[4])
end
return 1
