"""What Redis does in one step. Each script begins with the check that the journal is the same one.

Keys, all with one hash tag, so that they are in one slot of a cluster:

| key | type | what it holds |
|---|---|---|
| `identity` | hash | format, fingerprint, secret, and `journal`, a digest of these |
| `server:ID` | string | exists while that server's lease lasts |
| `servers` | set | ids of servers that have entries, or had |
| `running:ID` | set | names of the entries that this server answers; `none`: those of no server |
| `e:NAME` | hash | an entry; its `fence` changes whenever it is taken |
| `d:NAME` | list | its deltas |
| `k:OWNER:KEY` | string | name of the entry with this idempotency key |
| `o:OWNER:DIGEST` | sorted set | names of the orphans with this digest, oldest first |
| `expiry`, `complete` | sorted sets | names of ended and of complete entries, by expiry |
| `size` | number | bytes of all entries and deltas |
| `fence` | number | the last fence that was given out |
"""

from __future__ import annotations

PREFIX = "{glmserve}:"

_COMMON = (
    f"local P = '{PREFIX}'"
    """
local call = redis.call
if call('HGET', P..'identity', 'journal') ~= ARGV[1] then
  return redis.error_reply('IDENTITY the store is empty, or the journal of other servers')
end
local function delete(name)
  local f = call('HMGET', P..'e:'..name, 'bytes', 'server', 'key', 'orphan')
  call('ZREM', P..'expiry', name)
  call('ZREM', P..'complete', name)
  if not f[1] then return end
  call('DECRBY', P..'size', f[1])
  call('SREM', P..'running:'..f[2], name)
  if f[3] ~= '' and call('GET', f[3]) == name then call('DEL', f[3]) end
  if f[4] ~= '' then call('ZREM', f[4], name) end
  call('DEL', P..'e:'..name, P..'d:'..name)
end
local function note_running(name, server)
  call('SADD', P..'running:'..server, name)
  call('SADD', P..'servers', server)  -- from which others remove a server whose lease has ended
end
local function hold(name, before, server)
  local fence = tostring(call('INCR', P..'fence'))
  call('HSET', P..'e:'..name, 'fence', fence, 'server', server, 'phase', '0', 'expires', '')
  call('SREM', P..'running:'..before, name)
  note_running(name, server)
  call('ZREM', P..'expiry', name)
  call('ZREM', P..'complete', name)
  return fence
end
local function finish(name, server, phase, expires)
  call('SREM', P..'running:'..server, name)
  call('HSET', P..'e:'..name, 'phase', phase, 'expires', expires, 'server', 'none')
  call('ZADD', P..'expiry', expires, name)
  local orphan = call('HGET', P..'e:'..name, 'orphan')
  if orphan ~= '' then call('ZADD', orphan, expires, name) end
end
local function is_alive(server)
  return call('EXISTS', P..'server:'..server) == 1
end
"""
)

COMMIT = (
    _COMMON
    + """
-- ARGV: journal, server, operations (MessagePack), largest size, and what the operations name by
-- its place: Redis's MessagePack has no type for bytes
local server, ops, most = ARGV[2], cmsgpack.unpack(ARGV[3]), tonumber(ARGV[4])
local function is_full()
  return ops.size > 0 and tonumber(call('GET', P..'size') or '0') + ops.size > most
end
if is_full() then
  local complete = call('ZRANGE', P..'complete', 0, -1)
  for i = 1, math.floor((#complete + 1) / 2) do delete(complete[i]) end
  if is_full() then return redis.error_reply('FULL --journal-size is reached') end
end
local taken, gone = {}, {}
local function holds(name, fence)
  local now = call('HGET', P..'e:'..name, 'fence')
  if now == fence then return true end
  table.insert(now and taken or gone, name)
  return false
end
local added = 0
local function add(name, size)
  call('HINCRBY', P..'e:'..name, 'bytes', size)
  added = added + size
end
for _, o in ipairs(ops.inserts) do
  local name, place, stream, key, orphan, size = unpack(o)
  if call('EXISTS', P..'e:'..name) == 0 then
    if key ~= '' and (call('GET', key) or name) ~= name then
      table.insert(gone, name)
    else
      call('HSET', P..'e:'..name, 'entry', ARGV[place], 'body', ARGV[place + 1],
           'stream', stream, 'key', key, 'orphan', orphan, 'phase', '0', 'expires', '',
           'attempts', '0', 'fence', '0', 'server', server, 'bytes', '0')
      note_running(name, server)
      if key ~= '' then call('SET', key, name) end
      add(name, size)
    end
  end
end
for _, o in ipairs(ops.deltas) do
  local name, fence, position, place, count, size = unpack(o)
  if holds(name, fence) then
    local length = call('LLEN', P..'d:'..name)
    if length == position then
      for i = 0, count - 1, 1000 do
        call('RPUSH', P..'d:'..name, unpack(ARGV, place + i, place + math.min(i + 999, count - 1)))
      end
      add(name, size)
    elseif length ~= position + count then  -- else an attempt wrote it and its reply was lost
      table.insert(gone, name)
    end
  end
end
call('INCRBY', P..'size', added)
for _, o in ipairs(ops.ends) do
  local name, fence, phase, expires = unpack(o)
  if holds(name, fence) then
    finish(name, server, phase, expires)
    if phase == '0' then
      note_running(name, 'none')
    end
    if phase == '2' then call('ZADD', P..'complete', expires, name) end
  end
end
for _, o in ipairs(ops.attempts) do
  if holds(o[1], o[2]) then call('HINCRBY', P..'e:'..o[1], 'attempts', o[3]) end
end
for _, o in ipairs(ops.deletes) do
  if call('HGET', P..'e:'..o[1], 'fence') == o[2] then delete(o[1]) end
end
for _, o in ipairs(ops.refused) do
  if call('GET', o[1]) == o[2] then call('DEL', o[1]) end
end
return {tonumber(call('GET', P..'size') or '0'), taken, gone}
"""
)
"""Writes a batch. Returns the size, and the names of entries that were taken and that are gone."""

TAKE = (
    _COMMON
    + """
-- ARGV: journal, server, name, claim, fence of this server or ''
local server, name, claim = ARGV[2], ARGV[3], ARGV[4]
local f = call('HMGET', P..'e:'..name, 'fence', 'server', 'phase', 'entry', 'orphan')
if not f[1] then return {'gone'} end
if claim == 'own' then
  if f[1] ~= ARGV[5] then return {'busy'} end
elseif claim ~= 'stream' then
  if f[3] == '0' and f[2] ~= server and is_alive(f[2]) then return {'busy'} end
  if claim == 'orphan' and call('ZREM', f[5], name) == 0 then return {'busy'} end
end
return {'taken', hold(name, f[2], server), f[4], call('LRANGE', P..'d:'..name, 0, -1)}
"""
)
"""Takes an entry. Returns `gone`, `busy`, or `taken`, the new fence, the entry and its deltas."""

ADOPT = (
    _COMMON
    + """
-- ARGV: journal, server, expiry of what is left, most entries, most attempts
local server, expires, most, attempts = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local found = {}
for _, other in ipairs(call('SMEMBERS', P..'servers')) do
  if other ~= server and not is_alive(other) then
    for _, name in ipairs(call('SMEMBERS', P..'running:'..other)) do
      if #found == most then break end
      local e = P..'e:'..name
      local f = call('HMGET', e, 'server', 'stream', 'attempts', 'orphan', 'expires', 'entry')
      call('SREM', P..'running:'..other, name)
      if f[1] == other and f[2] == '1' then
        if f[5] == '' then
          call('HSET', e, 'expires', expires)
          call('ZADD', P..'expiry', expires, name)
        end
      elseif f[1] == other and tonumber(f[3]) >= attempts then
        delete(name)
      elseif f[1] == other then
        if f[4] ~= '' then call('ZADD', f[4], expires, name) end
        table.insert(found, {name, hold(name, other, server), f[6]})
      end
    end
    if call('EXISTS', P..'running:'..other) == 0 then call('SREM', P..'servers', other) end
  end
end
return found
"""
)
"""Takes whole answers of servers whose lease has ended; streams of theirs get an expiry. Returns
the entries with their names and fences."""

ABANDON = (
    _COMMON
    + """
-- ARGV: journal, server, expiry, names of the entries that the server answers (MessagePack)
local held = {}
for _, name in ipairs(cmsgpack.unpack(ARGV[4])) do held[name] = true end
for _, name in ipairs(call('SMEMBERS', P..'running:'..ARGV[2])) do
  if not held[name] and call('HGET', P..'e:'..name, 'server') == ARGV[2] then
    finish(name, ARGV[2], '1', ARGV[3])
  end
end
return 0
"""
)
"""Abandons the server's other entries: it began or ended them while the store did not answer."""

TEND = (
    _COMMON
    + """
-- ARGV: journal, server, lease in milliseconds, now, most deletions
call('SET', P..'server:'..ARGV[2], '1', 'PX', ARGV[3])
call('SADD', P..'servers', ARGV[2])
local expired = call('ZRANGEBYSCORE', P..'expiry', '-inf', '('..ARGV[4], 'LIMIT', 0, ARGV[5])
for _, name in ipairs(expired) do delete(name) end
return {tonumber(call('GET', P..'size') or '0'), #expired}
"""
)
"""Renews a server's lease, and deletes what has expired. Returns the size, and how many it was."""
