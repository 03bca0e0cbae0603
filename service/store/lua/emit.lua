-- ARGV: id, attempt, event, data, then fields of the record. Gives 1, or 0 if the attempt is stale.
local id, attempt, name, data = unpack(ARGV)
if not holds(id, attempt) then
  return 0
end
write_fields(id, 5)
event(id, name, data)
return 1
