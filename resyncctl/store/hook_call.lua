-- Tell a hook of an event: open a pending rollout, or join the one that is open. Times are microseconds.
-- KEYS: hooks, due times, pending, names, windows, sent
-- ARGV: now, hook, 1 = all phones, most names that a rollout takes, where from, why, then the names
-- Answer: {number, latest possible time, 1 = joined}; {} when there is no such hook.
local text = redis.call('HGET', KEYS[1], ARGV[2])
if not text then
  return {}
end
local hook = cjson.decode(text)
local quiet, longest, cool = hook.quiet * 1e6, hook.max_wait * 1e6, hook.cool_down * 1e6
local now = tonumber(ARGV[1])

local open = redis.call('HMGET', KEYS[3], 'number', 'first', 'held', 'all')
local number = open[1] or redis.call('INCR', KEYS[5])
local first = tonumber(open[2] or now)
local last = math.min(first, tonumber(open[3] or first)) + longest
local all = ARGV[3] == '1' or open[4] == '1'
if not all then
  for at = 7, #ARGV, 5000 do
    redis.call('SADD', KEYS[4], unpack(ARGV, at, math.min(at + 4999, #ARGV)))
  end
  all = redis.call('SCARD', KEYS[4]) > tonumber(ARGV[4])
end
if all then
  redis.call('DEL', KEYS[4])
end
local due = us(math.min(now + quiet, last))
redis.call('HSET', KEYS[3], 'number', number, 'first', us(first), 'due', due, 'all', all and 1 or 0,
  'source', ARGV[5], 'reason', ARGV[6])
redis.call('HINCRBY', KEYS[3], 'calls', 1)
redis.call('ZADD', KEYS[2], due, ARGV[2])

-- What is in its cool-down is sent to when that has ended.
local latest = first + longest
if all then
  latest = math.max(latest, cool_until(KEYS[6], cool))
elseif cool > 0 then
  for at = 7, #ARGV do
    local ends = cool_until(KEYS[6], cool, ARGV[at])
    latest = math.max(latest, ends > now and ends + longest or 0)
  end
end
return {tonumber(number), us(latest), open[1] and 1 or 0}
