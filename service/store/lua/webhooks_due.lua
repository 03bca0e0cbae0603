-- ARGV: most records, most records of one owner, seconds for which they are given to nobody else, JSON object of how many
-- of each owner ('' of nobody) are being sent. Gives records whose webhooks are due, first those of the owner who has waited
-- longest.
local most, share, hold, held = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], cjson.decode(ARGV[4])
local owners = {}
for _, owner in ipairs(redis.call('SMEMBERS', P .. ':webhook_owners')) do
  local first = redis.call('ZRANGE', webhooks_key(owner), 0, 0, 'WITHSCORES')[2]
  if first and tonumber(first) <= tonumber(NOW) and (held[owner] or 0) < share then
    owners[#owners + 1] = {owner, tonumber(first)}
  end
end
table.sort(owners, function(a, b) return a[2] < b[2] end)

local found = {}
for _, entry in ipairs(owners) do
  local owner = entry[1]
  local room = math.min(share - (held[owner] or 0), most - #found)
  for _, id in ipairs(redis.call('ZRANGE', webhooks_key(owner), '-inf', NOW, 'BYSCORE', 'LIMIT', 0, room)) do
    if redis.call('EXISTS', record_key(id)) == 1 then
      redis.call('ZADD', webhooks_key(owner), NOW + hold, id)
      found[#found + 1] = read(id)
    else -- the record has expired
      drop_webhook(id, owner)
    end
  end
end
return found
