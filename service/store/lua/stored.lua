-- ARGV: owner or ''. Gives the bytes that are stored in all, of records in all, and of the owner.
local held = redis.call('HMGET', P .. ':stored', 'all', 'records', 'all ' .. ARGV[1])
return {tonumber(held[1] or 0), tonumber(held[2] or 0), tonumber(held[3] or 0)}
