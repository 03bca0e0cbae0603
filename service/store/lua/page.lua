-- ARGV: name of the index, lexical upper bound, number of records. Gives the id before the next page or '', and the
-- records of this page, newest first.
local index, bound, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local ids = redis.call('ZRANGE', P .. ':' .. index, bound, '-', 'BYLEX', 'REV', 'LIMIT', 0, limit + 1)
local records = {}
for i = 1, math.min(#ids, limit) do
  if redis.call('EXISTS', record_key(ids[i])) == 1 then -- it may have expired
    records[#records + 1] = read(ids[i])
  end
end
return {#ids > limit and ids[limit] or '', records}
