-- ARGV: id, document, priority, queue, owner or '', cost, seconds to keep it after its end, most seconds in the queue or
-- '', hash of the idempotency key or '', hash of the body, lifetime of the key in seconds, then the limits or '': most
-- queued of all, most active and greatest cost of the owner; what logs call the request, and '1' if a webhook is to tell
-- of its end; the name that a training publishes under or '', its owner or '', and '1' if the record takes over the owner
-- who holds the name already; bytes that its outputs may take, most bytes of the owner, of all, and of all records or '';
-- where its pictures are or ''; and if there is one, the message that wakes a worker: its list, its text.
-- Gives {'created' | 'same', record}, {'conflict'}, {'name-taken', the name}, {'gone'} if its pictures were let go of in
-- the meantime, or {the limit that refuses it, what is there already}.
local id, document, priority, queue, owner, cost, keep, patience, idempotency, body, ttl = unpack(ARGV)
local max_queued, max_active, max_cost = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local context, webhook, name, name_owner, adopt = unpack(ARGV, 15, 19)
local outputs, share, most, most_records, inputs, list, message = unpack(ARGV, 20)
local key = record_key(id)
if redis.call('EXISTS', key) == 1 then
  return {'created', read(id)} -- the client library sent it twice after a lost answer
end

if idempotency ~= '' then
  local answer = earlier(idempotency, body)
  if answer then
    return answer
  end
end
if inputs ~= '' and not redis.call('ZSCORE', P .. ':holders', id) then
  return {'gone'}
end

local holder = name ~= '' and redis.call('HGET', name_key(name), 'owner') or name_owner
if holder ~= name_owner and adopt == '' then
  return {'name-taken', name}
end

local queued = redis.call('ZCARD', P .. ':queued')
if max_queued and queued >= max_queued then
  return {'queue-full', queued}
end
local size = #document + #inputs + RECORD_BYTES
local owner_records = most_records == '' and '' or most_records / 4 -- so that no owner fills the database
local refused = no_room('all', owner, outputs + size, share, most)
  or no_room('records', owner, size, owner_records, most_records)
if refused then
  return refused
end
if owner ~= '' then
  local held = redis.call('HMGET', load_key(owner), 'active', 'cost')
  local active, spent = tonumber(held[1] or 0), tonumber(held[2] or 0)
  if max_active and active >= max_active then
    return {'too-many-jobs', active}
  end
  if max_cost and spent + cost > max_cost then
    return {'over-budget', math.floor(spent)}
  end
  redis.call('HINCRBY', load_key(owner), 'active', 1)
  redis.call('HINCRBYFLOAT', load_key(owner), 'cost', cost)
  redis.call('HSET', key, '_owner', owner, '_cost', cost)
end

if idempotency ~= '' then
  redis.call('HSET', P .. ':idempotency:' .. idempotency, 'id', id, 'body', body)
  redis.call('EXPIRE', P .. ':idempotency:' .. idempotency, ttl)
end
if name ~= '' then
  redis.call('HSET', name_key(name), 'owner', holder)
  redis.call('HINCRBY', name_key(name), 'active', 1)
  redis.call('HSET', key, '_name', name, 'model_owner', holder == '' and 'null' or cjson.encode(holder))
end
redis.call('HSET', key, '_document', document, '_priority', priority, '_queue', queue, '_keep', keep,
  '_turn', turn_of(priority, owner), '_context', context, '_webhook', webhook, '_inputs', inputs,
  'status', 'queued', 'attempt', '0', 'created_at', NOW)
redis.call('ZREM', P .. ':holders', id) -- its pictures are held as long as it is kept
count_bytes(id, owner, tonumber(outputs), size)
for _, listing in ipairs(listings(owner ~= '' and owner)) do
  redis.call('ZADD', listing .. ':all', 0, id)
  redis.call('ZADD', listing .. ':status:queued', 0, id)
end
if patience ~= '' then
  redis.call('ZADD', P .. ':deadlines', NOW + patience, id)
end
enqueue(id)
event(id, 'status', '{"status":"queued","attempt":0}')
if message then
  redis.call('LPUSH', list, message)
end
return {'created', read(id)}
