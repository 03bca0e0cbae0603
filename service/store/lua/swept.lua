-- ARGV: names of pictures that were litter and have been deleted.
return redis.call('SREM', P .. ':litter', unpack(ARGV))
