-- Change the state of a rollout if it is still what the caller saw. KEYS: meta, events.
-- ARGV: expected state, new state, then field and value pairs for meta. Answer: the state before.
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  return false
end
if state == ARGV[1] then
  redis.call('HSET', KEYS[1], 'state', ARGV[2], unpack(ARGV, 3))
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 1000, '*', 'state', ARGV[2], 'report', redis.call('HGET', KEYS[1], 'report') or '')
end
return state
