-- Take a batch for a worker. KEYS: meta, owners, done, lease of the worker, plan, batch hash, deaths
-- ARGV: token, lease in ms, batch number, prefix of lease keys
-- Answer: {'ok', state, plan offset zero in us, deaths of its owners, compressed targets, outcomes}, or one of
--   {'done'}, {'held'} by a worker that is alive, {'idle'} when the rollout wants nothing of it now, {'gone'}.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  return {'gone'}
end
local token, number = ARGV[1], ARGV[3]
if redis.call('HEXISTS', KEYS[3], number) == 1 then
  return {'done'}
end
local owner = redis.call('HGET', KEYS[2], number)
if owner and owner ~= token and redis.call('EXISTS', ARGV[4] .. owner) == 1 then
  return {'held'}
end
-- An aborted rollout wants nothing but that what its dead workers left open is settled.
if state ~= 'running' and state ~= 'draining' and not (state == 'aborted' and owner) then
  return {'idle'}
end
local deaths = redis.call('HGET', KEYS[7], number) or '0'
if owner and owner ~= token then
  deaths = redis.call('HINCRBY', KEYS[7], number, 1)
end
redis.call('SET', KEYS[4], token, 'PX', ARGV[2])
redis.call('HSET', KEYS[2], number, token)
return {
  'ok', state, redis.call('HGET', KEYS[1], 'base_us') or '0', tonumber(deaths), redis.call('HGET', KEYS[5], number),
  redis.call('HGETALL', KEYS[6])
}
