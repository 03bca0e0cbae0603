-- ARGV: most records, seconds for which they are given to nobody else. Gives records whose webhooks are due.
local found = {}
for _, id in ipairs(redis.call('ZRANGE', P .. ':webhooks', '-inf', NOW, 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
  if redis.call('EXISTS', record_key(id)) == 1 then
    redis.call('ZADD', P .. ':webhooks', NOW + ARGV[2], id)
    found[#found + 1] = read(id)
  else -- the record has expired
    redis.call('ZREM', P .. ':webhooks', id)
  end
end
return found
