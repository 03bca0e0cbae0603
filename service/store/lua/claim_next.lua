-- ARGV: worker, lease in seconds, error of a wait too long, lanes to pass over. Gives the first record of the queue that is
-- in none of these lanes, or nil.
local worker, lease, late = unpack(ARGV)
return take_first(worker, lease, late, list_of(4))
