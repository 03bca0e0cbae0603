-- Shared by all scripts of the record store: prepended to each. KEYS[1] is the store's prefix, and every key begins
-- with it, so on a cluster they share one slot. LEGAL[from][to] is written by the store from the status machine.
local P = KEYS[1]
local EVENTS_KEPT = 1000

local function record_key(id) return P .. ':record:' .. id end
local function events_key(id) return P .. ':events:' .. id end
local function queue_key(queue) return P .. ':queue:' .. queue end

-- The records of a queue by their creation.
local function ages_key(queue) return P .. ':ages:' .. queue end

-- How many running records a worker holds of each queue.
local function held_key(worker) return P .. ':held:' .. worker end

-- The queues whose model a worker could not load lately, each with the reason.
local function lacks_key(worker) return P .. ':lacks:' .. worker end

-- Redis keeps the time, so the clocks of the hosts do not matter. Seconds as text, exact to the microsecond.
local TIME = redis.call('TIME')
local NOW = string.format('%d.%06d', TIME[1], TIME[2])

-- ARGV from position `first` on holds name, JSON value, name, JSON value ...
local function write_fields(id, first, last)
  for i = first, last or #ARGV, 2 do
    redis.call('HSET', record_key(id), ARGV[i], ARGV[i + 1])
  end
end

local function event(id, name, data)
  redis.call('XADD', events_key(id), 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', name, 'data', data)
end

-- What the indexes begin with that list a record: everybody's, and its owner's.
local function listings(owner)
  return owner and {P, P .. ':owner:' .. owner} or {P}
end

-- A name under which somebody trains: its owner, and how many trainings are active. Later the cards of the models say.
local function name_key(name) return P .. ':name:' .. name end

-- The webhooks of one owner ('' of nobody) by the time at which they are due; the owners that have any are a set.
local function webhooks_key(owner) return P .. ':webhooks:' .. owner end

local function schedule_webhook(id, owner, due)
  redis.call('ZADD', webhooks_key(owner), due, id)
  redis.call('SADD', P .. ':webhook_owners', owner)
end

local function drop_webhook(id, owner)
  redis.call('ZREM', webhooks_key(owner), id)
  if redis.call('EXISTS', webhooks_key(owner)) == 0 then
    redis.call('SREM', P .. ':webhook_owners', owner)
  end
end

local function load_key(owner) return P .. ':owner:' .. owner .. ':load' end

-- The pictures that a job or upload holds.
local function holds_key(holder) return P .. ':holds:' .. holder end

-- Bytes that are stored, of all and of an owner: pictures, and records with a round sum for their events and lists.
local RECORD_BYTES = 8192

-- Adds to what is stored (of `all`, or of `records` alone), in sum and of an owner.
local function charge(what, owner, bytes)
  redis.call('HINCRBY', P .. ':stored', what, bytes)
  if owner ~= '' and redis.call('HINCRBY', P .. ':stored', what .. ' ' .. owner, bytes) <= 0 then
    redis.call('HDEL', P .. ':stored', what .. ' ' .. owner)
  end
end

-- The limit that so many more bytes would pass, of the owner or of everybody, and what is stored already; nil if there is
-- room. A limit may be ''.
local function no_room(what, owner, bytes, share, most)
  local held = redis.call('HMGET', P .. ':stored', what, what .. ' ' .. owner)
  local sum, own = tonumber(held[1] or 0), tonumber(held[2] or 0)
  if share ~= '' and owner ~= '' and own + bytes > tonumber(share) then
    return {'too-much-stored', own}
  end
  if most ~= '' and sum + bytes > tonumber(most) then
    return {'storage-full', sum}
  end
end

-- A holder lets go of its pictures; those that nobody else holds are no longer counted, and wait to be deleted.
local function release(holder)
  for _, member in ipairs(redis.call('SMEMBERS', holds_key(holder))) do
    local owner, name, hash, bytes = string.match(member, '^(%S*) ((%x+)%-%d+) (%d+)$')
    if redis.call('HINCRBY', P .. ':uses', name, -1) <= 0 then
      redis.call('HDEL', P .. ':uses', name)
      redis.call('HDEL', P .. ':shelf:' .. owner, hash)
      redis.call('SADD', P .. ':litter', name)
      charge('all', owner, -bytes)
    end
  end
  redis.call('DEL', holds_key(holder))
  redis.call('ZREM', P .. ':holders', holder)
end

-- Counts so many bytes for a record and its outputs in place of what was counted before; 0: it is gone.
local function count_bytes(id, owner, bytes, record)
  local before = redis.call('HMGET', P .. ':bytes', id, id .. ' record')
  charge('all', owner, bytes + record - (before[1] or 0))
  charge('records', owner, record - (before[2] or 0))
  if bytes + record == 0 then
    redis.call('HDEL', P .. ':bytes', id, id .. ' record')
  else
    redis.call('HSET', P .. ':bytes', id, bytes + record, id .. ' record', record)
  end
end

-- What a record takes in the database, with its events.
local function record_bytes(id)
  return redis.call('HSTRLEN', record_key(id), '_document') + redis.call('HSTRLEN', record_key(id), '_inputs')
    + redis.call('HSTRLEN', record_key(id), 'outputs') + RECORD_BYTES
end

-- What an idempotency key was used for before: {'same', record} for the same body, {'conflict'} for another, or nil.
local read
local function earlier(idempotency, body)
  local before = redis.call('HMGET', P .. ':idempotency:' .. idempotency, 'id', 'body')
  if before[1] and redis.call('EXISTS', record_key(before[1])) == 1 then
    if before[2] == body then
      return {'same', read(before[1])}
    end
    return {'conflict'}
  end
end

-- The turn of a priority: that of the record that was started last.
local function turn_now(priority) return tonumber(redis.call('HGET', P .. ':turn', priority) or 0) end

-- A queued record waits in the order of its priority (9 first). Within a priority owners take turns, a record each: a
-- record's turn is the one after its owner's last, but never before the priority's turn, so that nobody saves turns up.
-- Records of one turn go by their ids, which grow with time.
local function turn_of(priority, owner)
  local member = priority .. ' ' .. owner
  if redis.call('EXISTS', P .. ':queued') == 0 then -- nobody waits: what owners had counts no more
    redis.call('DEL', P .. ':turns')
  end
  local last = redis.call('HGET', P .. ':turns', member)
  local turn = math.max(turn_now(priority), last and last + 1 or 0)
  redis.call('HSET', P .. ':turns', member, turn)
  return turn
end

-- The record's place is its own for good: one whose worker was lost keeps it. It waits in the queue of all and in that of
-- its model.
local function enqueue(id)
  local state = redis.call('HMGET', record_key(id), '_priority', '_queue', '_turn', 'created_at')
  local score = (9 - state[1]) * 1e13 + tonumber(state[3])
  redis.call('ZADD', P .. ':queued', score, id)
  redis.call('ZADD', queue_key(state[2]), score, id)
  redis.call('ZADD', ages_key(state[2]), state[4], id)
  redis.call('SADD', P .. ':queues', state[2])
end

local function dequeue(id)
  local queue = redis.call('HGET', record_key(id), '_queue')
  redis.call('ZREM', P .. ':queued', id)
  redis.call('ZREM', P .. ':deadlines', id)
  redis.call('ZREM', queue_key(queue), id)
  redis.call('ZREM', ages_key(queue), id)
  if redis.call('EXISTS', queue_key(queue)) == 0 then
    redis.call('SREM', P .. ':queues', queue)
  end
end

-- The end of a record: its owner's load is released, its webhook is due, and the time is set at which all of it goes.
local function conclude(id)
  local key = record_key(id)
  local state = redis.call('HMGET', key, '_owner', '_cost', '_keep', '_webhook', 'attempt', 'stored_bytes')
  local owner, ends = state[1], string.format('%.6f', tonumber(NOW) + state[3])
  if state[6] or state[5] == '0' then -- where a worker was lost, nobody knows what it had stored: it stays as estimated
    count_bytes(id, owner or '', tonumber(state[6] or 0), record_bytes(id))
  end
  if owner then
    redis.call('HINCRBYFLOAT', load_key(owner), 'cost', -state[2])
    if redis.call('HINCRBY', load_key(owner), 'active', -1) == 0 then
      redis.call('DEL', load_key(owner))
    end
  end
  local name = redis.call('HGET', key, '_name')
  if name and redis.call('HINCRBY', name_key(name), 'active', -1) == 0 then
    redis.call('DEL', name_key(name))
  end
  redis.call('HSET', key, 'finished_at', NOW, 'expires_at', ends)
  local milliseconds = math.ceil(ends * 1000)
  redis.call('PEXPIREAT', key, milliseconds)
  redis.call('PEXPIREAT', events_key(id), milliseconds)
  redis.call('ZADD', P .. ':expiring', ends, id .. ' ' .. (owner or ''))
  if state[4] == '1' then
    schedule_webhook(id, owner or '', NOW)
  end
  -- With all that the record says, so that those who wait for it need not ask.
  redis.call('PUBLISH', P .. ':finished', id .. ' ' .. cjson.encode(redis.call('HGETALL', key)))
end

local function move(id, to)
  local key = record_key(id)
  local state = redis.call('HMGET', key, 'status', 'attempt', '_owner', '_worker', '_queue')
  local from = state[1]
  if not LEGAL[from][to] then
    return false
  end
  for _, listing in ipairs(listings(state[3])) do
    redis.call('ZREM', listing .. ':status:' .. from, id)
    redis.call('ZADD', listing .. ':status:' .. to, 0, id)
  end
  redis.call('HSET', key, 'status', to)
  redis.call('HINCRBY', P .. ':moves', from .. ' ' .. to, 1)
  if from == 'queued' then
    dequeue(id)
  elseif from == 'running' then
    redis.call('ZREM', P .. ':leases', id)
    if redis.call('HINCRBY', held_key(state[4]), state[5], -1) <= 0 then
      redis.call('HDEL', held_key(state[4]), state[5])
    end
  end
  event(id, 'status', string.format('{"status":"%s","attempt":%d}', to, state[2]))
  if next(LEGAL[to]) == nil then
    conclude(id)
  elseif to == 'queued' then
    enqueue(id)
  end
  return true
end

-- What a worker left behind when it fell silent: queued again, unless it was to be cancelled or was lost too often
-- without having saved anything.
local function give_up_lease(id, max_attempts, error)
  local key = record_key(id)
  if redis.call('HGET', key, 'cancel_requested') == 'true' then
    move(id, 'cancelled')
  elseif redis.call('HINCRBY', key, '_lost', 1) >= tonumber(max_attempts) then
    redis.call('HSET', key, 'error', error)
    move(id, 'failed')
  else
    move(id, 'queued')
  end
end

-- Fails a queued record that has waited for its first start longer than its client wanted; true if it was late.
local function fail_if_late(id, error)
  local deadline = redis.call('ZSCORE', P .. ':deadlines', id)
  if not deadline or tonumber(deadline) > tonumber(NOW) then
    return false
  end
  redis.call('HSET', record_key(id), 'error', error)
  move(id, 'failed')
  return true
end

-- How long after one another records leave the queue while others wait there: a mean over about the last eight.
local function note_start()
  local pace = redis.call('HMGET', P .. ':pace', 'last', 'gap', 'waited')
  if pace[3] == '1' then
    local gap = tonumber(NOW) - pace[1]
    redis.call('HSET', P .. ':pace', 'gap', pace[2] and pace[2] + (gap - pace[2]) / 8 or gap)
  end
  redis.call('HSET', P .. ':pace', 'last', NOW, 'waited', redis.call('ZCARD', P .. ':queued') > 1 and '1' or '0')
end

-- In how many seconds the record with so many before it will start, by that pace; '' if nothing is known.
local function wait_of(rank)
  local pace = redis.call('HMGET', P .. ':pace', 'last', 'gap')
  if not rank or not pace[2] then
    return ''
  end
  return tostring(math.max(0, (rank + 1) * pace[2] - (tonumber(NOW) - pace[1])))
end

read = function(id)
  local rank = redis.call('ZRANK', P .. ':queued', id)
  return {rank or -1, redis.call('HGETALL', record_key(id)), wait_of(rank)}
end

-- Gives a queued record to a worker, on a lease of so many seconds.
local function start(id, worker, lease)
  local key = record_key(id)
  note_start()
  redis.call('HINCRBY', key, 'attempt', 1)
  redis.call('HSET', key, '_worker', worker, 'started_at', NOW)
  local state = redis.call('HMGET', key, '_queue', '_priority', '_turn')
  redis.call('HINCRBY', held_key(worker), state[1], 1)
  redis.call('HSET', P .. ':turn', state[2], math.max(turn_now(state[2]), state[3]))
  move(id, 'running')
  redis.call('ZADD', P .. ':leases', tonumber(NOW) + tonumber(lease), id)
  return read(id)
end

-- True if none of the living workers, which are in ARGV from position `first` on, can load the model of a queue.
local function nobody_has(queue, first)
  for i = first, #ARGV do
    if redis.call('HEXISTS', lacks_key(ARGV[i]), queue) == 0 then
      return false
    end
  end
  return true
end

-- Whether a worker may have one more record of a queue: it can load the model, as far as is known, and holds less than its
-- share of such records, or the share is ''.
local function has_room(worker, share, queue)
  if redis.call('HEXISTS', lacks_key(worker), queue) == 1 then
    return false
  end
  return share == '' or tonumber(redis.call('HGET', held_key(worker), queue) or 0) < tonumber(share)
end

-- Gives a worker the first record of all queues for which it has room, or nil. Records that have waited too long fail on
-- the way.
local function take_first(worker, lease, late, share)
  while true do
    local first, least
    for _, queue in ipairs(redis.call('SMEMBERS', P .. ':queues')) do
      if has_room(worker, share, queue) then
        local head = redis.call('ZRANGE', queue_key(queue), 0, 0, 'WITHSCORES')
        local id, score = head[1], tonumber(head[2])
        if not first or score < least or (score == least and id < first) then
          first, least = id, score
        end
      end
    end
    if not first then
      return nil
    end
    if not fail_if_late(first, late) then
      return start(first, worker, lease)
    end
  end
end

-- True if this attempt still holds the record.
local function holds(id, attempt)
  local held = redis.call('HMGET', record_key(id), 'status', 'attempt')
  return held[1] == 'running' and held[2] == attempt
end
