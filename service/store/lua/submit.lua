-- ARGV: id, document, priority, queue, owner or '', cost, seconds to keep it after its end, most seconds in the queue or
-- '', hash of the idempotency key or '', hash of the body, lifetime of the key in seconds, then the limits or '': most
-- queued of all, most active and greatest cost of the owner; what logs call the request, and '1' if a webhook is to tell
-- of its end; the name that a training publishes under or '', its owner or '', and '1' if the record takes over the owner
-- who holds the name already; and if there is one, the message that wakes a worker: its list, its text.
-- Gives {'created' | 'same', record}, {'conflict'}, {'name-taken', the name}, or {the limit that refuses it, what is there
-- already}.
local id, document, priority, queue, owner, cost, keep, patience, idempotency, body, ttl = unpack(ARGV)
local max_queued, max_active, max_cost = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local context, webhook, name, name_owner, adopt, list, message = unpack(ARGV, 15)
local key = record_key(id)
if redis.call('EXISTS', key) == 1 then
  return {'created', read(id)} -- the client library sent it twice after a lost answer
end

local idempotency_key = P .. ':idempotency:' .. idempotency
if idempotency ~= '' then
  local earlier = redis.call('HMGET', idempotency_key, 'id', 'body')
  if earlier[1] and redis.call('EXISTS', record_key(earlier[1])) == 1 then
    if earlier[2] == body then
      return {'same', read(earlier[1])}
    end
    return {'conflict'}
  end
end

local holder = name ~= '' and redis.call('HGET', name_key(name), 'owner') or name_owner
if holder ~= name_owner and adopt == '' then
  return {'name-taken', name}
end

local queued = redis.call('ZCARD', P .. ':queued')
if max_queued and queued >= max_queued then
  return {'queue-full', queued}
end
if owner ~= '' then
  local held = redis.call('HMGET', load_key(owner), 'active', 'cost')
  local active, spent = tonumber(held[1] or 0), tonumber(held[2] or 0)
  if max_active and active >= max_active then
    return {'too-many-jobs', active}
  end
  if max_cost and active > 0 and spent + cost > max_cost then
    return {'over-budget', math.floor(spent)}
  end
  redis.call('HINCRBY', load_key(owner), 'active', 1)
  redis.call('HINCRBYFLOAT', load_key(owner), 'cost', cost)
  redis.call('HSET', key, '_owner', owner, '_cost', cost)
end

if idempotency ~= '' then
  redis.call('HSET', idempotency_key, 'id', id, 'body', body)
  redis.call('EXPIRE', idempotency_key, ttl)
end
if name ~= '' then
  redis.call('HSET', name_key(name), 'owner', holder)
  redis.call('HINCRBY', name_key(name), 'active', 1)
  redis.call('HSET', key, '_name', name, 'model_owner', holder == '' and 'null' or cjson.encode(holder))
end
redis.call('HSET', key, '_document', document, '_priority', priority, '_queue', queue, '_keep', keep,
  '_context', context, '_webhook', webhook,
  'status', 'queued', 'attempt', '0', 'created_at', NOW)
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
