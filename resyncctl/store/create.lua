-- Make a rollout whose plan has been written. KEYS: meta, plan. ARGV: field and value pairs for meta.
-- Answer: '' when it is made, else the plan hash of the rollout that has this ID already.
local known = redis.call('HGET', KEYS[1], 'plan_hash')
if known then
  return known
end
redis.call('HSET', KEYS[1], unpack(ARGV))
redis.call('PERSIST', KEYS[2])
return ''
