-- ARGV: most records, worker, most records of one queue that it may hold or ''. Gives id, priority, id, priority ... of
-- queued records that it may have.
local most, worker, share = unpack(ARGV)
local found = {}
for _, queue in ipairs(redis.call('SMEMBERS', P .. ':queues')) do
  if has_room(worker, share, queue) then
    for _, id in ipairs(redis.call('ZRANGE', queue_key(queue), 0, most - 1)) do
      found[#found + 1] = id
      found[#found + 1] = tonumber(redis.call('HGET', record_key(id), '_priority'))
    end
  end
end
return found
