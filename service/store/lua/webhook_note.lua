-- ARGV: id, the state of its webhook, seconds until it is due again or '' for never.
local id, state, again = unpack(ARGV)
local kept = redis.call('EXISTS', record_key(id)) == 1
if kept then
  redis.call('HSET', record_key(id), 'webhook', state)
end
if kept and again ~= '' then
  redis.call('ZADD', P .. ':webhooks', NOW + again, id)
else
  redis.call('ZREM', P .. ':webhooks', id)
end
return 1
