-- ARGV: holder, owner or '', most bytes of the owner or '', most of all or '', seconds for which it is held, then hash and
-- bytes of each picture in turn. Gives {'held', names}, or {the limit that refuses it, what is there already}.
-- An owner's equal pictures are kept once, under a name that is never given again: whoever deletes one by an old name
-- can't hit a new one.
local holder, owner, share, most, seconds = unpack(ARGV)
local shelf = P .. ':shelf:' .. owner
local fresh = 0
for i = 6, #ARGV, 2 do
  if redis.call('HEXISTS', shelf, ARGV[i]) == 0 then
    fresh = fresh + ARGV[i + 1]
  end
end
local refused = no_room('all', owner, fresh, share, most)
if refused then
  return refused
end
local names = {}
for i = 6, #ARGV, 2 do
  local hash, bytes = ARGV[i], ARGV[i + 1]
  local name = redis.call('HGET', shelf, hash)
  if not name then
    name = hash .. '-' .. redis.call('INCR', P .. ':shelves')
    redis.call('HSET', shelf, hash, name)
    charge('all', owner, bytes)
  end
  if redis.call('SADD', holds_key(holder), owner .. ' ' .. name .. ' ' .. bytes) == 1 then
    redis.call('HINCRBY', P .. ':uses', name, 1)
  end
  names[#names + 1] = name
end
redis.call('ZADD', P .. ':holders', NOW + seconds, holder)
return {'held', names}
