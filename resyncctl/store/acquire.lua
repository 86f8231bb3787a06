-- Take the lease of a rollout. KEYS: meta, lease. ARGV: owner, lease in ms.
-- Answer: {'ok'}, {'missing'}, or {'held', holder, milliseconds left}.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'missing'}
end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then
  return {'held', holder, redis.call('PTTL', KEYS[2])}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
return {'ok'}
