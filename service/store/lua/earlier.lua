-- ARGV: hash of an idempotency key, hash of the body. Gives {'same', record}, {'conflict'}, or {'none'}.
return earlier(ARGV[1], ARGV[2]) or {'none'}
