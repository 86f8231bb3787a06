-- Take what a hook has to launch: what is pending and due, or what somebody took who has said nothing since.
-- KEYS: hooks, due times, pending, names, windows, sent, launching, launching names
-- ARGV: now in us, hook, token of the process, its claim in us
-- Answer: {number, how often it was taken, 1 = all phones, calls, where from, why, names}; {} when there is nothing.
-- Phones in their cool-down stay: they are pending again, under the next number.
local text = redis.call('HGET', KEYS[1], ARGV[2])
if not text then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return {}
end
local hook = cjson.decode(text)
local longest, cool = hook.max_wait * 1e6, hook.cool_down * 1e6
local now = tonumber(ARGV[1])

local function later(at)
  redis.call('ZADD', KEYS[2], at, ARGV[2])
  return {}
end

local function each(names, command, key)
  for at = 1, #names, 5000 do
    redis.call(command, key, unpack(names, at, math.min(at + 4999, #names)))
  end
end

-- Take the names whose cool-down has ended; answer until when the others wait, nil when there is no other.
local function part_names()
  local ready, first, last = {}, math.huge, 0
  local names = redis.call('SMEMBERS', KEYS[4])
  for _, name in ipairs(names) do
    local ends = cool_until(KEYS[6], cool, name)
    if ends > now then
      first, last = math.min(first, ends), math.max(last, ends)
    else
      ready[#ready + 1] = name
    end
  end
  each(ready, 'SADD', KEYS[8])
  each(ready, 'SREM', KEYS[4])
  if #ready < #names then
    return #ready, us(first), us(math.min(last, first + longest))
  end
  return #ready
end

local claimed = redis.call('HGET', KEYS[7], 'until')
if claimed then
  if tonumber(claimed) > now then
    return later(claimed)
  end
else
  local pending = redis.call('HMGET', KEYS[3], 'number', 'due', 'all', 'source', 'reason')
  if not pending[1] then
    redis.call('ZREM', KEYS[2], ARGV[2])
    return {}
  end
  if tonumber(pending[2]) > now then
    return later(pending[2])
  end
  local held, due
  if pending[3] == '1' then
    local ends = cool_until(KEYS[6], cool)
    if ends > now then
      redis.call('HSET', KEYS[3], 'due', us(ends))
      return later(us(ends))
    end
  else
    local ready
    ready, held, due = part_names()
    if ready == 0 then
      redis.call('HDEL', KEYS[3], 'first')
      redis.call('HSET', KEYS[3], 'held', held, 'due', due)
      return later(due)
    end
  end
  redis.call('RENAME', KEYS[3], KEYS[7])
  if held then
    redis.call('HSET', KEYS[3], 'number', redis.call('INCR', KEYS[5]), 'held', held, 'due', due, 'all', 0, 'calls', 0,
      'source', pending[4], 'reason', pending[5])
  end
end
local claim = us(now + tonumber(ARGV[4]))
redis.call('HSET', KEYS[7], 'token', ARGV[3], 'until', claim)
redis.call('HINCRBY', KEYS[7], 'tries', 1)
redis.call('ZADD', KEYS[2], claim, ARGV[2])
local taken = redis.call('HMGET', KEYS[7], 'number', 'tries', 'all', 'calls', 'source', 'reason')
taken[7] = redis.call('SMEMBERS', KEYS[8])
return taken
