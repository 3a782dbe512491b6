-- State of one stream at one moment, without fetching the contents of its entries.
--
-- KEYS: the stream. ARGV: its consumer group (optional).
--
-- Returns JSON: now (seconds), length; if the stream exists: added, oldest, newest; if the group exists:
-- group = {lag, pending, waiting (the first unread entry), unfinished (the first pending one), consumers}.

local stream, group = KEYS[1], ARGV[1]

local function named(flat)
  local fields = {}
  for at = 1, #flat, 2 do
    fields[flat[at]] = flat[at + 1]
  end
  return fields
end

local function first_id(from)
  local found = redis.call('XRANGE', stream, from, '+', 'COUNT', 1)
  return found[1] and found[1][1]
end

local function consumers()
  local found = {}
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local consumer = named(flat)
    found[#found + 1] = {name = consumer['name'], pending = consumer['pending'], idle_ms = consumer['idle']}
  end
  return found
end

local function group_state()
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local state = named(flat)
    if state['name'] == group then
      return {
        lag = state['lag'],
        pending = state['pending'],
        waiting = first_id('(' .. state['last-delivered-id']),
        unfinished = redis.call('XPENDING', stream, group)[2],
        consumers = consumers(),
      }
    end
  end
end

local time = redis.call('TIME')
local look = {now = time[1] .. '.' .. string.format('%06d', time[2]), length = redis.call('XLEN', stream)}
if redis.call('EXISTS', stream) == 1 then
  local info = named(redis.call('XINFO', 'STREAM', stream))
  look.added = info['entries-added']
  look.oldest = first_id('-')
  look.newest = info['last-generated-id']
  look.group = group_state()
end
return cjson.encode(look)
