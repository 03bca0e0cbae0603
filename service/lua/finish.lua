-- ARGV: id, attempt, status, then fields of the record. Gives 1, or 0 if the attempt is stale.
local id, attempt, status = unpack(ARGV)
if not holds(id, attempt) then
  return 0
end
write_fields(id, 4)
move(id, status)
return 1
