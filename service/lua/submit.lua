-- ARGV: id, document, priority, hash of the idempotency key or '', hash of the body, lifetime of the key in seconds.
-- Gives {'created' | 'same', record} or {'conflict'}.
local id, document, priority, idempotency, body, ttl = unpack(ARGV)
if redis.call('EXISTS', record_key(id)) == 1 then
  return {'created', read(id)} -- the client library sent it twice after a lost answer
end
if idempotency ~= '' then
  local key = P .. ':idempotency:' .. idempotency
  local earlier = redis.call('HMGET', key, 'id', 'body')
  if earlier[1] then
    if earlier[2] == body then
      return {'same', read(earlier[1])}
    end
    return {'conflict'}
  end
  redis.call('HSET', key, 'id', id, 'body', body)
  redis.call('EXPIRE', key, ttl)
end
redis.call('HSET', record_key(id), '_document', document, '_priority', priority,
  'status', 'queued', 'attempt', '0', 'created_at', NOW)
redis.call('ZADD', P .. ':all', 0, id)
redis.call('ZADD', P .. ':status:queued', 0, id)
enqueue(id)
event(id, 'status', '{"status":"queued","attempt":0}')
return {'created', read(id)}
