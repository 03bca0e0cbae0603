-- Shared by all scripts of the record store: prepended to each. KEYS[1] is the store's prefix, and every key begins
-- with it, so on a cluster they share one slot. LEGAL[from][to] is written by the store from the status machine.
local P = KEYS[1]
local EVENTS_KEPT = 1000
local EVENTS_TTL = 86400

local function record_key(id) return P .. ':record:' .. id end
local function events_key(id) return P .. ':events:' .. id end

-- Redis keeps the time, so the clocks of the hosts do not matter. Seconds as text, exact to the microsecond.
local TIME = redis.call('TIME')
local NOW = string.format('%d.%06d', TIME[1], TIME[2])

-- ARGV from position `first` on holds name, JSON value, name, JSON value ...
local function write_fields(id, first)
  for i = first, #ARGV, 2 do
    redis.call('HSET', record_key(id), ARGV[i], ARGV[i + 1])
  end
end

local function event(id, name, data)
  redis.call('XADD', events_key(id), 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', name, 'data', data)
end

-- A queued record waits in the order of its priority (9 first), then of its arrival.
local function enqueue(id)
  local priority = tonumber(redis.call('HGET', record_key(id), '_priority'))
  redis.call('ZADD', P .. ':queued', (9 - priority) * 1e13 + tonumber(NOW) * 1000, id)
  redis.call('ZADD', P .. ':unclaimed', NOW, id)
end

local function move(id, to)
  local key = record_key(id)
  local from = redis.call('HGET', key, 'status')
  if not LEGAL[from][to] then
    return false
  end
  redis.call('ZREM', P .. ':status:' .. from, id)
  redis.call('ZADD', P .. ':status:' .. to, 0, id)
  redis.call('HSET', key, 'status', to)
  if from == 'queued' then
    redis.call('ZREM', P .. ':queued', id)
    redis.call('ZREM', P .. ':unclaimed', id)
  elseif from == 'running' then
    redis.call('ZREM', P .. ':leases', id)
  end
  local attempt = redis.call('HGET', key, 'attempt')
  event(id, 'status', string.format('{"status":"%s","attempt":%d}', to, attempt))
  if next(LEGAL[to]) == nil then
    redis.call('HSET', key, 'finished_at', NOW)
    redis.call('EXPIRE', events_key(id), EVENTS_TTL)
    redis.call('PUBLISH', P .. ':finished', id)
  elseif to == 'queued' then
    enqueue(id)
  end
  return true
end

-- What a worker left behind when it fell silent: queued again, unless it was to be cancelled or was tried too often.
local function give_up_lease(id, max_attempts, error)
  local key = record_key(id)
  if redis.call('HGET', key, 'cancel_requested') == 'true' then
    move(id, 'cancelled')
  elseif redis.call('HGET', key, 'attempt') - (redis.call('HGET', key, '_released') or 0) >= tonumber(max_attempts) then
    redis.call('HSET', key, 'error', error)
    move(id, 'failed')
  else
    move(id, 'queued')
  end
end

-- True if this attempt still holds the record.
local function holds(id, attempt)
  local held = redis.call('HMGET', record_key(id), 'status', 'attempt')
  return held[1] == 'running' and held[2] == attempt
end

local function read(id)
  local rank = redis.call('ZRANK', P .. ':queued', id)
  return {rank or -1, redis.call('HGETALL', record_key(id))}
end
