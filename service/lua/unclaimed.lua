-- ARGV: seconds, most records. Gives id, priority, id, priority ... of records that have waited so long since they
-- were last sent, and counts them as sent now.
local waiting = {}
local before = tonumber(NOW) - tonumber(ARGV[1])
for _, id in ipairs(redis.call('ZRANGE', P .. ':unclaimed', '-inf', before, 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  redis.call('ZADD', P .. ':unclaimed', NOW, id)
  waiting[#waiting + 1] = id
  waiting[#waiting + 1] = tonumber(redis.call('HGET', record_key(id), '_priority'))
end
return waiting
