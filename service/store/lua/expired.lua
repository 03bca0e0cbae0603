-- ARGV: most records. Gives 'id owner' of finished records whose time is over.
return redis.call('ZRANGE', P .. ':expiring', '-inf', NOW, 'BYSCORE', 'LIMIT', 0, ARGV[1])
