-- ARGV: error, most records. Fails queued records whose clients did not want to wait so long; gives how many.
local late = redis.call('ZRANGE', P .. ':deadlines', '-inf', NOW, 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(late) do
  fail_if_late(id, ARGV[1])
end
return #late
