-- ARGV: most records, lanes to pass over. Gives id, priority, id, priority ... of queued records in other lanes.
local found = {}
local full = set_of(list_of(2))
for _, lane in ipairs(redis.call('SMEMBERS', P .. ':lanes')) do
  if not full[lane] then
    for _, id in ipairs(redis.call('ZRANGE', lane_key(lane), 0, ARGV[1] - 1)) do
      found[#found + 1] = id
      found[#found + 1] = tonumber(redis.call('HGET', record_key(id), '_priority'))
    end
  end
end
return found
