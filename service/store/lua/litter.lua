-- ARGV: most. Lets go of what is held too long, and gives names of pictures that nobody holds and that are to be deleted.
for _, holder in ipairs(redis.call('ZRANGE', P .. ':holders', '-inf', NOW, 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
  release(holder)
end
return redis.call('SRANDMEMBER', P .. ':litter', ARGV[1])
