-- Write outcomes and intents of one owner, renew its lease, and tell it what the operator wants.
-- KEYS: meta, lease, events, then one batch hash for each pair of blobs
-- ARGV: owner, lease in ms, now in us, plan offset zero in us, report as JSON or '', then for each batch: outcomes, intents
--       a blob is a run of entries: place in the batch (2 bytes, big end first), packed outcome (25 bytes)
-- Answer: {state, pause reason}; {'lost', holder} when somebody else owns the rollout: nothing is written then.
local owner = ARGV[1]
local holder = redis.call('GET', KEYS[2])
if holder ~= owner then
  -- An expired lease is still ours as long as nobody else has taken the rollout since.
  if holder or redis.call('HGET', KEYS[1], 'owner') ~= owner then
    return {'lost', holder or ''}
  end
end
redis.call('SET', KEYS[2], owner, 'PX', ARGV[2])
local state = redis.call('HGET', KEYS[1], 'state')

local function write(key, blob)
  local fields, n = {}, 0
  for at = 1, #blob, 27 do
    local high, low = string.byte(blob, at, at + 1)
    fields[n + 1] = high * 256 + low
    fields[n + 2] = string.sub(blob, at + 2, at + 26)
    n = n + 2
  end
  if n > 0 then
    redis.call('HSET', key, unpack(fields))
  end
end

-- While draining there are retries to send.
local blob = 6
for index = 4, #KEYS do
  write(KEYS[index], ARGV[blob])
  if state == 'running' or state == 'draining' then
    write(KEYS[index], ARGV[blob + 1])
  end
  blob = blob + 2
end
redis.call('HSET', KEYS[1], 'seen_us', ARGV[3], 'base_us', ARGV[4])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'report', ARGV[5])
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', 1000, '*', 'state', state, 'report', ARGV[5])
end
return {state, redis.call('HGET', KEYS[1], 'pause_reason') or ''}
