-- ARGV: most attempts, error of one attempt too many, most records. Gives id, priority, id, priority ...
local queued = {}
for _, id in ipairs(redis.call('ZRANGE', P .. ':leases', '-inf', NOW, 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
  give_up_lease(id, ARGV[1], ARGV[2])
  local state = redis.call('HMGET', record_key(id), 'status', '_priority')
  if state[1] == 'queued' then
    queued[#queued + 1] = id
    queued[#queued + 1] = tonumber(state[2])
  end
end
return queued
