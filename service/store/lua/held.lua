-- ARGV: holder. Gives when its time is over (a time in seconds) or '', and 'owner name bytes' of each picture it holds.
return {redis.call('ZSCORE', P .. ':holders', ARGV[1]) or '', redis.call('SMEMBERS', holds_key(ARGV[1]))}
