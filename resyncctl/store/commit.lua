-- Write outcomes and intents of a worker, renew its lease, give its sends their slots, and tell it what the operator wants.
-- KEYS: meta, owners, done, lease of the worker, reports, slots, events, then one batch hash for each batch
-- ARGV: token, lease in ms, proposed plan offset zero in us (0 = none), report as JSON or '', now in us from the start,
--       spacing in us (0 = no rate), wanted send times in us from the start (ascending, separated by blanks),
--       prefix of lease keys, then for each batch: number, outcomes, intents, verdict ('' = goes on, 'done', 'free')
--       a blob is a run of entries: place in the batch (2 bytes, big end first), packed outcome (25 bytes)
-- Answer: {state, pause reason, plan offset zero in us, workers, merged report, slots}; {'lost', batch} when another worker
-- owns one of the batches, {'lost', ''} when the rollout is gone: nothing is written then.
local token = ARGV[1]
for index = 8, #KEYS do
  local number = ARGV[9 + (index - 8) * 4]
  local owner = redis.call('HGET', KEYS[2], number) or redis.call('HGET', KEYS[3], number)
  if owner and owner ~= token then
    return {'lost', number}
  end
end
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  return {'lost', ''}
end
redis.call('SET', KEYS[4], token, 'PX', ARGV[2])
local sending = state == 'running' or state == 'draining'

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

for index = 8, #KEYS do
  local at = 9 + (index - 8) * 4
  local number, verdict = ARGV[at], ARGV[at + 3]
  write(KEYS[index], ARGV[at + 1])
  if sending then
    write(KEYS[index], ARGV[at + 2])
  end
  if verdict == 'done' then
    redis.call('HSET', KEYS[3], number, token)
    redis.call('HDEL', KEYS[2], number)
  elseif verdict == 'free' then
    redis.call('HDEL', KEYS[2], number)
  elseif redis.call('HEXISTS', KEYS[3], number) == 0 then
    redis.call('HSET', KEYS[2], number, token)  -- Redis may have been killed and have forgotten it
  end
end

-- The plan's offset zero only moves on: lost time is never caught up.
local base = tonumber(redis.call('HGET', KEYS[1], 'base_us') or '0')
if tonumber(ARGV[3]) > base then
  base = tonumber(ARGV[3])
  redis.call('HSET', KEYS[1], 'base_us', ARGV[3])
end

-- Slots: no two sends of any workers are closer than the spacing.
local slots, spacing = {}, tonumber(ARGV[6])
if sending and ARGV[7] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', tonumber(ARGV[5]) - 2000000)
  local free = -1
  for word in string.gmatch(ARGV[7], '%S+') do
    local at = math.max(tonumber(word), free)
    while true do
      local near = redis.call('ZRANGEBYSCORE', KEYS[6], '(' .. string.format('%.0f', at - spacing), '+inf', 'LIMIT', 0, 1)[1]
      if not near or tonumber(near) >= at + spacing then
        break
      end
      at = tonumber(near) + spacing
    end
    local text = string.format('%.0f', at)
    redis.call('ZADD', KEYS[6], text, text)
    slots[#slots + 1] = at
    free = at + spacing
  end
  redis.call('EXPIRE', KEYS[6], 3600)
end

-- The report of a rollout is the sum of what its workers have counted; who is gone has nothing on the wire any more.
local function merge(into, from)
  for name, value in pairs(from) do
    if type(value) == 'table' then
      if type(into[name]) ~= 'table' then
        into[name] = {}
      end
      if #value > 0 then
        for _, text in ipairs(value) do
          local known = false
          for _, other in ipairs(into[name]) do
            known = known or other == text
          end
          if not known then
            table.insert(into[name], text)
          end
        end
      else
        merge(into[name], value)
      end
    elseif name == 'first_sent' then
      into[name] = into[name] and math.min(into[name], value) or value
    elseif name == 'last_outcome' then
      into[name] = math.max(into[name] or 0, value)
    else
      into[name] = (into[name] or 0) + value
    end
  end
end

local workers, report = 0, ''
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[5], token, ARGV[4])
  local total = {counts = {}}
  local parts = redis.call('HGETALL', KEYS[5])
  for index = 1, #parts, 2 do
    local part = cjson.decode(parts[index + 1])
    if redis.call('EXISTS', ARGV[8] .. parts[index]) == 1 then
      merge(total.counts, part.open or {})
      workers = workers + 1
    end
    part.open = nil
    merge(total, part)
  end
  local rest = tonumber(redis.call('HGET', KEYS[1], 'targets'))
  for _, count in pairs(total.counts) do
    rest = rest - count
  end
  if rest > 0 then
    total.counts.planned = rest
  end
  report = cjson.encode(total)
  redis.call('HSET', KEYS[1], 'report', report)
  redis.call('XADD', KEYS[7], 'MAXLEN', '~', 1000, '*', 'state', state, 'report', report)
end
return {state, redis.call('HGET', KEYS[1], 'pause_reason') or '', string.format('%.0f', base), workers, report, slots}
