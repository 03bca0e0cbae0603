-- ARGV: name of the index, lexical upper bound, number of records. Gives records, newest first.
local records = {}
for _, id in ipairs(redis.call('ZRANGE', P .. ':' .. ARGV[1], ARGV[2], '-', 'BYLEX', 'REV', 'LIMIT', 0, ARGV[3])) do
  records[#records + 1] = read(id)
end
return records
