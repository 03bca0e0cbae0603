-- ARGV: id, attempt. Notes that this attempt has saved its chain. Gives 1, or 0 if the attempt is stale.
local id, attempt = unpack(ARGV)
if not holds(id, attempt) then
  return 0
end
redis.call('HSET', record_key(id), '_saved_attempt', attempt)
return 1
