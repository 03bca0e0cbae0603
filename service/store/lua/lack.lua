-- ARGV: id, attempt, worker, seconds, error, then the living workers. Notes for so many seconds that a worker can't load the
-- model of a record that it holds. The record fails with the error if no living worker can, else it is queued again, not
-- counted as a failed attempt. Gives its status, or 0 if the attempt is stale.
local id, attempt, worker, seconds, error = unpack(ARGV)
if not holds(id, attempt) then
  return 0
end
local queue = redis.call('HGET', record_key(id), '_queue')
redis.call('HSET', lacks_key(worker), queue, error)
redis.call('EXPIRE', lacks_key(worker), seconds)
if nobody_has(queue, 6) then
  redis.call('HSET', record_key(id), 'error', error)
  move(id, 'failed')
  return 'failed'
end
move(id, 'queued')
return 'queued'
