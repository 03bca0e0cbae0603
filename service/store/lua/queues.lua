-- Gives for each queue in which records wait: its name, how many wait, and for how many seconds the oldest has.
local found = {}
for _, queue in ipairs(redis.call('SMEMBERS', P .. ':queues')) do
  local oldest
  for band = 0, 9 do -- a score is the priority's band and the time of creation, as `enqueue` writes it
    local first = redis.call('ZRANGE', queue_key(queue), band * 1e13, '(' .. (band + 1) * 1e13, 'BYSCORE',
      'LIMIT', 0, 1, 'WITHSCORES')[2]
    local created = first and (first - band * 1e13) / 1000
    oldest = created and math.min(created, oldest or created) or oldest
  end
  found[#found + 1] = queue
  found[#found + 1] = redis.call('ZCARD', queue_key(queue))
  found[#found + 1] = string.format('%.3f', math.max(0, NOW - (oldest or NOW)))
end
return found
