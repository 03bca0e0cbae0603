-- ARGV: id, worker, lease in seconds, most attempts, error of one attempt too many. Gives the record, or nil.
local id, worker, lease, max_attempts, error = unpack(ARGV)
local key = record_key(id)
local status = redis.call('HGET', key, 'status')
if status == 'running' then
  local expiry = redis.call('ZSCORE', P .. ':leases', id)
  if expiry and tonumber(expiry) > tonumber(NOW) then
    return nil
  end
  give_up_lease(id, max_attempts, error)
  status = redis.call('HGET', key, 'status')
end
if status ~= 'queued' then
  return nil
end
redis.call('HINCRBY', key, 'attempt', 1)
redis.call('HSET', key, '_worker', worker, 'started_at', NOW)
move(id, 'running')
redis.call('ZADD', P .. ':leases', tonumber(NOW) + tonumber(lease), id)
return read(id)
