-- ARGV: 'id owner' of expired records. Takes them out of all indexes, and lets go of their pictures.
for _, member in ipairs(ARGV) do
  local id, owner = string.match(member, '^(%S+) (.*)$')
  for _, listing in ipairs(listings(owner ~= '' and owner)) do
    redis.call('ZREM', listing .. ':all', id)
    for status in pairs(LEGAL) do
      redis.call('ZREM', listing .. ':status:' .. status, id)
    end
  end
  redis.call('DEL', record_key(id), events_key(id))
  count_bytes(id, owner, 0, 0)
  release(id)
  redis.call('ZREM', P .. ':expiring', member)
end
return #ARGV
