-- Gives for each queue in which records wait: its name, how many wait, and for how many seconds the oldest has.
local found = {}
for _, queue in ipairs(redis.call('SMEMBERS', P .. ':queues')) do
  local oldest = redis.call('ZRANGE', ages_key(queue), 0, 0, 'WITHSCORES')[2]
  found[#found + 1] = queue
  found[#found + 1] = redis.call('ZCARD', queue_key(queue))
  found[#found + 1] = string.format('%.3f', math.max(0, NOW - (oldest or NOW)))
end
return found
