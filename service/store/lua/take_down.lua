-- ARGV: a bell. Takes it down, unless somebody has rung it: gives what that says then, or nil.
redis.call('HDEL', terms, ARGV[1])
if redis.call('ZREM', bells, ARGV[1]) == 0 then
  return redis.call('LPOP', bell_key(ARGV[1]))
end
return nil
