-- ARGV: id. Takes a record that has ended out of all that clients see; what belongs to it is deleted by whoever forgets it.
-- Gives 'unknown', 'active', or 'deleted' with its owner.
local id = ARGV[1]
local state = redis.call('HMGET', record_key(id), 'status', '_owner')
if not state[1] then
  return {'unknown'}
end
if next(LEGAL[state[1]]) ~= nil then
  return {'active'}
end
local owner = state[2] or ''
for _, listing in ipairs(listings(state[2])) do
  redis.call('ZREM', listing .. ':all', id)
  redis.call('ZREM', listing .. ':status:' .. state[1], id)
end
drop_webhook(id, owner)
redis.call('DEL', record_key(id), events_key(id))
redis.call('ZADD', P .. ':expiring', NOW, id .. ' ' .. owner)
return {'deleted', owner}
