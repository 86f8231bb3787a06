-- Renew the lease of whoever dispatches a rollout, and tell it how things are. KEYS: meta, lease, owners, done
-- ARGV: token, lease in ms, now in us, proposed plan offset zero in us (0 = none), prefix of lease keys
-- Answer: {state, pause reason, plan offset zero in us, batches done, batches that a worker which is alive has, batches whose
--   worker is dead, report}; {'lost', holder} when another process dispatches it.
local token = ARGV[1]
local holder = redis.call('GET', KEYS[2])
if holder ~= token then
  -- An expired lease is still ours as long as nobody else has taken the rollout since.
  if holder or redis.call('HGET', KEYS[1], 'owner') ~= token then
    return {'lost', holder or ''}
  end
end
redis.call('SET', KEYS[2], token, 'PX', ARGV[2])
local base = tonumber(redis.call('HGET', KEYS[1], 'base_us') or '0')
if tonumber(ARGV[4]) > base then
  base = tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'base_us', ARGV[4])
end
redis.call('HSET', KEYS[1], 'seen_us', ARGV[3])
local held, orphans, alive = 0, {}, {}
local owners = redis.call('HGETALL', KEYS[3])
for index = 1, #owners, 2 do
  local owner = owners[index + 1]
  if alive[owner] == nil then
    alive[owner] = redis.call('EXISTS', ARGV[5] .. owner)
  end
  if alive[owner] == 1 then
    held = held + 1
  else
    orphans[#orphans + 1] = tonumber(owners[index])
  end
end
return {
  redis.call('HGET', KEYS[1], 'state'), redis.call('HGET', KEYS[1], 'pause_reason') or '', string.format('%.0f', base),
  redis.call('HLEN', KEYS[4]), held, orphans, redis.call('HGET', KEYS[1], 'report') or ''
}
