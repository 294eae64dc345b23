"""The durable queue's steps as Redis runs them: each script is atomic, so each decision about a request is made once.

What stands in Redis, below one prefix: `request:ID` (a hash: the request, its state, its result), `queue:MODEL` (a stream of
ids, read by the consumer group `routers`), `pending` (a sorted set: every id that has not ended, by the time at which it is
given up), `once:DIGEST` (an idempotency key's request) and `dead` (a stream: the dead letters). KEYS[1] is `pending`, ARGV[1]
the prefix. All times are Redis' own clock, in milliseconds, so routers need not agree on theirs.

A claim is held by (number, consumer). The number rises with every claim; the consumer tells apart two that got the same number
because Redis lost its last moments in between. Whoever does not hold the claim any more changes nothing.

A step begins with a write that needs no memory, unless it may be refused: so a full Redis refuses new requests, never results.
"""

from typing import Final

_PRELUDE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local pending, prefix = KEYS[1], ARGV[1]
local function key_of(id) return prefix .. 'request:' .. id end
local function queue_of(model) return prefix .. 'queue:' .. model end
local function holds(request, number, consumer)
  local held = redis.call('HMGET', request, 'state', 'claim', 'consumer')
  return held[1] == 'running' and held[2] == number and held[3] == consumer
end
local function leave(id, state)
  local request = key_of(id)
  local model, entry, once, keep = unpack(redis.call('HMGET', request, 'model', 'entry', 'once', 'keep'))
  redis.call('XACK', queue_of(model), 'routers', entry)
  redis.call('XDEL', queue_of(model), entry)
  redis.call('ZREM', pending, id)
  redis.call('HDEL', request, 'headers', 'body', 'reserved')
  redis.call('HSET', request, 'state', state, 'ended', now, 'expires', now + keep)
  redis.call('PEXPIRE', request, keep)
  if once ~= '' then redis.call('PEXPIRE', prefix .. 'once:' .. once, keep) end
end
local function bury(id, code, message)
  leave(id, 'dead')
  redis.call('HSET', key_of(id), 'error_code', code, 'error_message', message)
  local owner, model, path, tries = unpack(redis.call('HMGET', key_of(id), 'owner', 'model', 'path', 'tries'))
  redis.call('XADD', prefix .. 'dead', 'MAXLEN', '~', 10000, '*', 'id', id, 'owner', owner, 'model', model, 'path', path,
             'tries', tries, 'code', code, 'reason', message)
end
local function exhausted(id)
  local tries, failure = unpack(redis.call('HMGET', key_of(id), 'tries', 'failure'))
  bury(id, 'tries_exhausted', 'Given up after ' .. tries .. ' tries. The last one: ' .. failure)
end
"""

ACCEPT: Final = (
    _PRELUDE
    + """
-- id, owner, model, path, headers, body, reserved, once, digest, milliseconds that it is kept, most that may be pending
local id, model, once, digest, keep = ARGV[2], ARGV[4], ARGV[9], ARGV[10], ARGV[11]
local function accepted(id)
  return {'accepted', id, unpack(redis.call('HMGET', key_of(id), 'state', 'created', 'expires'))}
end
if redis.call('EXISTS', key_of(id)) == 1 then return accepted(id) end
local known = once ~= '' and redis.call('GET', prefix .. 'once:' .. once)
if known then
  local gap = string.find(known, ' ')
  local before = string.sub(known, gap + 1)
  if redis.call('EXISTS', key_of(before)) == 1 then
    return string.sub(known, 1, gap - 1) == digest and accepted(before) or {'reused', before}
  end
end
if redis.call('ZCARD', pending) >= tonumber(ARGV[12]) then return {'full'} end
redis.call('HSET', key_of(id), 'state', 'queued', 'owner', ARGV[3], 'model', model, 'path', ARGV[5], 'headers', ARGV[6],
           'body', ARGV[7], 'reserved', ARGV[8], 'once', once, 'keep', keep, 'created', now, 'expires', now + keep,
           'tries', 0, 'claim', 0, 'consumer', '', 'failure', '')
if redis.call('EXISTS', queue_of(model)) == 0 then
  redis.call('XGROUP', 'CREATE', queue_of(model), 'routers', '0', 'MKSTREAM')
end
redis.call('HSET', key_of(id), 'entry', redis.call('XADD', queue_of(model), '*', 'id', id))
redis.call('ZADD', pending, now + keep, id)
if once ~= '' then redis.call('SET', prefix .. 'once:' .. once, digest .. ' ' .. id) end
return accepted(id)
"""
)

TAKE: Final = (
    _PRELUDE
    + """
-- model, consumer, milliseconds after which a silent router's claim is lost, most tries
local queue, consumer, most = queue_of(ARGV[2]), ARGV[3], tonumber(ARGV[5])
local function next_entry()
  local cursor = '0-0'
  repeat
    local claimed = redis.call('XAUTOCLAIM', queue, 'routers', consumer, ARGV[4], cursor, 'COUNT', 1)
    cursor = claimed[1]
    if claimed[2][1] then return claimed[2][1] end
  until cursor == '0-0'
  local fresh = redis.call('XREADGROUP', 'GROUP', 'routers', consumer, 'COUNT', 1, 'STREAMS', queue, '>')
  return fresh and fresh[1][2][1]
end
if redis.call('EXISTS', queue) == 0 then return false end
while true do
  local entry = next_entry()
  if not entry then return false end
  local id = entry[2][2]
  local request = key_of(id)
  local state, tries = unpack(redis.call('HMGET', request, 'state', 'tries'))
  if state == 'running' then
    redis.call('HSET', request, 'failure', 'the router that ran it was lost.')
  end
  if state ~= 'queued' and state ~= 'running' then
    redis.call('XACK', queue, 'routers', entry[1])
    redis.call('XDEL', queue, entry[1])
  elseif tonumber(tries) >= most then
    exhausted(id)
  else
    local number = redis.call('HINCRBY', request, 'claim', 1)
    tries = redis.call('HINCRBY', request, 'tries', 1)
    redis.call('HSET', request, 'state', 'running', 'consumer', consumer, 'started', now)
    return {id, number, tries, unpack(redis.call('HMGET', request, 'owner', 'path', 'headers', 'body', 'reserved'))}
  end
end
"""
)

BEAT: Final = (
    _PRELUDE
    + """
-- consumer, then id and number of each claim; answers with the ids whose claim is lost
local consumer, lost = ARGV[2], {}
for at = 3, #ARGV, 2 do
  local id = ARGV[at]
  if holds(key_of(id), ARGV[at + 1], consumer) then
    local model, entry = unpack(redis.call('HMGET', key_of(id), 'model', 'entry'))
    redis.call('XCLAIM', queue_of(model), 'routers', consumer, 0, entry, 'JUSTID')
  else
    lost[#lost + 1] = id
  end
end
return lost
"""
)

FINISH: Final = (
    _PRELUDE
    + """
-- id, number, consumer, state, code, engine's request id, answer, error's code, error's message
local id = ARGV[2]
local request = key_of(id)
if not holds(request, ARGV[3], ARGV[4]) then
  local held = redis.call('HMGET', request, 'state', 'claim', 'consumer')  -- Said twice, where the first answer was lost.
  return (held[1] == ARGV[5] and held[2] == ARGV[3] and held[3] == ARGV[4]) and 1 or 0
end
leave(id, ARGV[5])
redis.call('HSET', request, 'code', ARGV[6], 'request_id', ARGV[7], 'answer', ARGV[8], 'error_code', ARGV[9],
           'error_message', ARGV[10])
return 1
"""
)

GIVE_BACK: Final = (
    _PRELUDE
    + """
-- id, number, consumer, milliseconds to wait, visibility in milliseconds, most tries (0: this one does not count), failure
-- It waits as a claim that is idle for all but those milliseconds, so whichever router looks next then takes it.
local id, most = ARGV[2], tonumber(ARGV[7])
local request = key_of(id)
if not holds(request, ARGV[3], ARGV[4]) then return 'lost' end
local model, entry, tries = unpack(redis.call('HMGET', request, 'model', 'entry', 'tries'))
local idle = math.max(0, ARGV[6] - ARGV[5])
redis.call('XCLAIM', queue_of(model), 'routers', ARGV[4], 0, entry, 'IDLE', idle, 'JUSTID')
if most == 0 then
  redis.call('HINCRBY', request, 'tries', -1)
else
  redis.call('HSET', request, 'failure', ARGV[8])
  if tonumber(tries) >= most then
    exhausted(id)
    return 'dead'
  end
end
redis.call('HSET', request, 'state', 'queued', 'consumer', '')
return 'queued'
"""
)

CANCEL: Final = (
    _PRELUDE
    + """
-- id, owner; answers with the state that it had
local id = ARGV[2]
local state, owner = unpack(redis.call('HMGET', key_of(id), 'state', 'owner'))
if owner ~= ARGV[3] then return false end
if state == 'queued' or state == 'running' then leave(id, 'cancelled') end
return state
"""
)

SWEEP: Final = (
    _PRELUDE
    + """
-- answers with how many were given up now
local late = redis.call('ZRANGE', pending, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
for _, id in ipairs(late) do
  bury(id, 'expired', 'It had not ended when its time was over.')
end
return #late
"""
)

FORGET: Final = (
    _PRELUDE
    + """
-- model, milliseconds: drop the group's consumers that hold nothing and were silent for so long
local queue = queue_of(ARGV[2])
if redis.call('EXISTS', queue) == 0 then return end
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', queue, 'routers')) do
  if row[4] == 0 and row[6] > tonumber(ARGV[3]) then redis.call('XGROUP', 'DELCONSUMER', queue, 'routers', row[2]) end
end
"""
)
