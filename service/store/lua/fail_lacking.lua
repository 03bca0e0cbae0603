-- ARGV: worker, most records of a queue, then the living workers. Fails queued records whose model this worker could not
-- load, and no other living one; gives how many.
local worker, most = unpack(ARGV)
local lacked, failed = redis.call('HGETALL', lacks_key(worker)), 0
for i = 1, #lacked, 2 do
  if nobody_has(lacked[i], 3) then
    for _, id in ipairs(redis.call('ZRANGE', queue_key(lacked[i]), 0, most - 1)) do
      redis.call('HSET', record_key(id), 'error', lacked[i + 1])
      move(id, 'failed')
      failed = failed + 1
    end
  end
end
return failed
