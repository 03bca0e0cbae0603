-- ARGV: worker, lease in seconds, error of a wait too long, most records of one queue that the worker may hold or ''. Gives
-- the first record of the queue that it may have, or nil.
return take_first(unpack(ARGV))
