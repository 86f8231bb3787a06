-- End a launch and say what came of it. KEYS: due times, pending, sent, launching, launching names, last.
-- ARGV: now in us, hook, token, cool-down in us, rollout or '' when there was nothing to do, note, most names of `sent`
-- Answer: 1, or 0 when somebody else has it or it is done.
if redis.call('HGET', KEYS[4], 'token') ~= ARGV[3] then
  return 0
end
local now, cool = tonumber(ARGV[1]), tonumber(ARGV[4])

local function mark(member)
  redis.call('ZADD', KEYS[3], ARGV[1], member)
end

if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[6], 'rollout', ARGV[5])
  redis.call('HINCRBY', KEYS[6], 'rollouts', 1)
  if cool > 0 then
    for _, name in ipairs(redis.call('SMEMBERS', KEYS[5])) do
      local user = string.match(name, '^([^@]*)@')
      mark('=' .. name)
      if user then
        mark('@' .. user)
      end
    end
    redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. string.format('%.0f', now - cool))
    redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[7]) - 1)
    mark('any')
    if redis.call('HGET', KEYS[4], 'all') == '1' then
      mark('all')
    end
    redis.call('PEXPIRE', KEYS[3], math.ceil(cool / 1000))
  end
end
redis.call('HSET', KEYS[6], 'us', ARGV[1], 'note', ARGV[6])
redis.call('DEL', KEYS[4], KEYS[5])
local due = redis.call('HGET', KEYS[2], 'due')
if due then
  redis.call('ZADD', KEYS[1], due, ARGV[2])
else
  redis.call('ZREM', KEYS[1], ARGV[2])
end
return 1
