-- ARGV: id. Gives the record.
return read(ARGV[1])
