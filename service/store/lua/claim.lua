-- ARGV: id, worker, lease in seconds, most attempts, error of one attempt too many, error of a wait too long. Gives the
-- record, or nil.
local id, worker, lease, max_attempts, lost, late = unpack(ARGV)
local key = record_key(id)
local status = redis.call('HGET', key, 'status')
if status == 'running' then
  local expiry = redis.call('ZSCORE', P .. ':leases', id)
  if expiry and tonumber(expiry) > tonumber(NOW) then
    return nil
  end
  give_up_lease(id, max_attempts, lost)
  status = redis.call('HGET', key, 'status')
end
if status ~= 'queued' or fail_if_late(id, late) then
  return nil
end
return start(id, worker, lease)
