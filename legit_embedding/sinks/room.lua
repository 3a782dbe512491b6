-- Trims a result stream to its limit, but never what a consumer group of it has not acknowledged.
--
-- KEYS: the result stream. ARGV: its limit.
-- Returns nothing where it is within the limit, or could be trimmed; else the name of the group that holds it up.
--
-- Whole nodes are trimmed, as XADD's own approximate limit does: what can go may stay a little longer.

local stream, limit = KEYS[1], tonumber(ARGV[1])
if redis.call('TYPE', stream)['ok'] ~= 'stream' then
  return ''
end
local excess = redis.call('XLEN', stream) - limit
if excess < 0 then
  return ''
end

local function older(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if #a_ms ~= #b_ms then return #a_ms < #b_ms end
  if a_ms ~= b_ms then return a_ms < b_ms end
  if #a_seq ~= #b_seq then return #a_seq < #b_seq end
  return a_seq < b_seq
end

-- The oldest entry that some group still needs.
local needed, holder
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = {}
  for place = 1, #flat, 2 do
    group[flat[place]] = flat[place + 1]
  end
  local from
  if group['pending'] > 0 then
    from = redis.call('XPENDING', stream, group['name'])[2]
  else
    local following = redis.call('XRANGE', stream, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)
    from = following[1] and following[1][1]
  end
  if from and (not needed or older(from, needed)) then
    needed, holder = from, group['name']
  end
end

if not needed then
  redis.call('XTRIM', stream, 'MAXLEN', '~', limit, 'LIMIT', 0)
  return ''
end
if excess > 0 then
  redis.call('XTRIM', stream, 'MINID', '~', needed, 'LIMIT', excess)
end
if redis.call('XLEN', stream) < limit then
  return ''
end
-- Held up where the oldest entry of all is still needed.
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1]
return older(first, needed) and '' or holder
