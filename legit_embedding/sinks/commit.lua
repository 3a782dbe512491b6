-- Writes many answers, and settles what each of them came from, in one atomic step.
--
-- KEYS: the task stream; then each other key, named below by its place here.
-- ARGV: group, maxlen (0: never trim), delete_on_ack (0 or 1), dedupe_s; then for each entry:
--   origin   "s": a stream entry, "c": a Celery task, "l": neither
--   id       the stream entry's id, the place of the Celery task's dedupe key, or nothing
--   stream   the place of the result stream
--   count    how many arguments follow: field, value, ...; or COUNT:PLACE:KEPT:SECONDS, where KEPT of them, after the
--            first four, are also kept in the hash whose key has this place
--
-- Returns one string an entry: "+ID" written now; "=ID" settled before, written there (ID may be unknown: "=");
-- "-TEXT" refused by the server, and nothing was changed for this entry.

local tasks = KEYS[1]
local group, maxlen, delete_on_ack, dedupe_s = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4]
local acked, seen, replies = {}, {}, {}

local function add(stream, first, last)
  if maxlen == '0' then
    return redis.pcall('XADD', stream, '*', unpack(ARGV, first, last))
  end
  return redis.pcall('XADD', stream, 'MAXLEN', '~', maxlen, '*', unpack(ARGV, first, last))
end

local function written(reply)
  if type(reply) == 'table' then
    return '-' .. reply['err']
  end
  return '+' .. reply
end

local function keep(key, first, kept, seconds)
  redis.pcall('DEL', key)
  redis.pcall('HSET', key, unpack(ARGV, first + 4, first + 3 + kept))
  redis.pcall('EXPIRE', key, seconds)
end

-- An entry is answered only while it is pending. It is acknowledged after its answer is written, since
-- an acknowledgement cannot be taken back.
local function answer_entry(id, stream, first, last)
  if seen[id] then
    return '='
  end
  local pending = redis.pcall('XPENDING', tasks, group, id, id, 1)
  if not pending[1] then
    if pending['err'] and string.sub(pending['err'], 1, 7) ~= 'NOGROUP' then
      return '-' .. pending['err']
    end
    -- A replica knows less than its master, and only a command that may write makes it say what it is.
    local reply = redis.pcall('XACK', tasks, group, id)
    return type(reply) == 'table' and '-' .. reply['err'] or '='
  end
  local reply = written(add(stream, first, last))
  if string.sub(reply, 1, 1) == '+' then
    seen[id] = true
    acked[#acked + 1] = id
  end
  return reply
end

local function answer_celery(key, stream, first, last)
  local recorded = redis.pcall('GET', key)
  if type(recorded) == 'string' then
    return '=' .. recorded
  end
  local reply = written(add(stream, first, last))
  if string.sub(reply, 1, 1) == '+' then
    redis.call('SET', key, string.sub(reply, 2), 'EX', dedupe_s)
  end
  return reply
end

local at, total = 5, #ARGV
while at <= total do
  local origin, id, stream = ARGV[at], ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])]
  local count, place, kept, seconds = string.match(ARGV[at + 3], '^(%d+):?(%d*):?(%d*):?(%d*)$')
  local first = at + 4
  local last = at + 3 + tonumber(count)
  if origin == 's' then
    replies[#replies + 1] = answer_entry(id, stream, first, last)
  elseif origin == 'c' then
    replies[#replies + 1] = answer_celery(KEYS[tonumber(id)], stream, first, last)
  else
    replies[#replies + 1] = written(add(stream, first, last))
  end
  if place ~= '' and string.sub(replies[#replies], 1, 1) == '+' then
    keep(KEYS[tonumber(place)], first, tonumber(kept), seconds)
  end
  at = last + 1
end

if #acked > 0 then
  redis.call('XACK', tasks, group, unpack(acked))
  if delete_on_ack then
    redis.call('XDEL', tasks, unpack(acked))
  end
end
return replies
