-- ARGV: id, attempt. Gives 1 and queues the record again, not counted as a failed attempt; 0 if the attempt is stale.
local id, attempt = unpack(ARGV)
if not holds(id, attempt) then
  return 0
end
move(id, 'queued')
return 1
