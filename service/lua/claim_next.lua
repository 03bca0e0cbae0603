-- ARGV: worker, lease in seconds, error of a wait too long, the bell to hang up if there is no record or '', for how many
-- seconds, lanes to pass over. Gives the first record of the queue that is in none of these lanes, or nil.
local worker, lease, late, bell, patience = unpack(ARGV)
local full = set_of(6)
while true do
  local first, least
  for _, lane in ipairs(redis.call('SMEMBERS', P .. ':lanes')) do
    if not full[lane] then
      local head = redis.call('ZRANGE', lane_key(lane), 0, 0, 'WITHSCORES')
      local id, score = head[1], tonumber(head[2])
      if not first or score < least or (score == least and id < first) then
        first, least = id, score
      end
    end
  end
  if not first then
    if bell ~= '' then
      redis.call('ZADD', bells, NOW + patience, bell)
    end
    return nil
  end
  if not fail_if_late(first, late) then
    return start(first, worker, lease)
  end
end
