-- Make a rollout of a plan that has been uploaded. KEYS: meta, plan, upload, reports.
-- ARGV: what the plan itself counts, as JSON, then field and value pairs for meta.
-- Answer: '' when it is made, else the plan hash of the rollout that has this ID already.
local known = redis.call('HGET', KEYS[1], 'plan_hash')
if known then
  redis.call('DEL', KEYS[3])
  return known
end
redis.call('RENAME', KEYS[3], KEYS[2])
redis.call('PERSIST', KEYS[2])
redis.call('HSET', KEYS[4], 'plan', ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return ''
