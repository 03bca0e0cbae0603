-- ARGV: id, attempt, position or ''. Notes that this attempt has saved its work. Attempts that were lost before do not
-- count any more; given a position, only if it is greater than all before. Gives 1, or 0 if the attempt is stale.
local id, attempt, position = unpack(ARGV)
if not holds(id, attempt) then
  return 0
end
local key = record_key(id)
redis.call('HSET', key, '_saved_attempt', attempt)
if position == '' then
  redis.call('HSET', key, '_lost', 0)
elseif tonumber(position) > tonumber(redis.call('HGET', key, '_furthest') or 0) then
  redis.call('HSET', key, '_furthest', position, '_lost', 0)
end
return 1
