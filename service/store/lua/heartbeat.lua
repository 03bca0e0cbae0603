-- ARGV: lease in seconds, JSON list of {id, attempt, progress or null, metrics or null}, the last two JSON as text.
-- Gives for each 'ok', 'cancel' (it was asked to stop) or 'stale' (it is not the worker's own any more).
local answers = {}
for i, beat in ipairs(cjson.decode(ARGV[2])) do
  local id, attempt = beat[1], beat[2]
  if not holds(id, attempt) then
    answers[i] = 'stale'
  else
    local key = record_key(id)
    redis.call('ZADD', P .. ':leases', tonumber(NOW) + tonumber(ARGV[1]), id)
    for position, name in pairs({[3] = 'progress', [4] = 'metrics'}) do
      if beat[position] ~= cjson.null then
        redis.call('HSET', key, name, beat[position])
        event(id, name, beat[position])
      end
    end
    answers[i] = redis.call('HGET', key, 'cancel_requested') == 'true' and 'cancel' or 'ok'
  end
end
return answers
