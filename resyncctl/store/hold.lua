-- Take or renew a lease that is not a rollout's. KEYS: lease. ARGV: token, lease in ms.
-- Answer: 0 when it is ours, else the milliseconds that its holder has left.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return math.max(1, redis.call('PTTL', KEYS[1]))
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
