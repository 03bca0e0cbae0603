-- ARGV: id, attempt, status, how many more belong to it, fields of the record; then, to take another in the same round
-- trip, what claim_next is given. Gives {1, the other record or nil}, or {0} if the attempt is stale.
local id, attempt, status, rest = unpack(ARGV)
if not holds(id, attempt) then
  return {0}
end
local last = 4 + rest
write_fields(id, 5, last)
move(id, status)
if #ARGV == last then
  return {1}
end
return {1, take_first(unpack(ARGV, last + 1))}
