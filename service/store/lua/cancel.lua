-- ARGV: id. A queued record is cancelled at once, a running one is asked to stop. Gives the record.
local id = ARGV[1]
local key = record_key(id)
local status = redis.call('HGET', key, 'status')
if status == 'queued' then
  move(id, 'cancelled')
elseif status == 'running' and redis.call('HGET', key, 'cancel_requested') ~= 'true' then
  redis.call('HSET', key, 'cancel_requested', 'true')
  event(id, 'status', string.format('{"status":"running","attempt":%d,"cancel_requested":true}',
    redis.call('HGET', key, 'attempt')))
end
return read(id)
