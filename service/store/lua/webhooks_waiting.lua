-- Gives how many webhooks wait to be sent, or to be sent again.
local count = 0
for _, owner in ipairs(redis.call('SMEMBERS', P .. ':webhook_owners')) do
  count = count + redis.call('ZCARD', webhooks_key(owner))
end
return count
