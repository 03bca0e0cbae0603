-- ARGV: worker, lease in seconds, error of a wait too long, the bell to hang up if there is no record or '', for how many
-- seconds, lanes to pass over. Gives the first record of the queue that is in none of these lanes, or nil.
local worker, lease, late, bell, patience = unpack(ARGV)
return take_or_listen(worker, lease, late, list_of(6), bell, patience)
