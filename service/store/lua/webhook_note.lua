-- ARGV: id, owner or '', the state of its webhook, seconds until it is due again or '' for never.
local id, owner, state, again = unpack(ARGV)
local kept = redis.call('EXISTS', record_key(id)) == 1
if kept then
  redis.call('HSET', record_key(id), 'webhook', state)
end
if kept and again ~= '' then
  schedule_webhook(id, owner, NOW + again)
else
  drop_webhook(id, owner)
end
return 1
