-- One page of the dead letter: what is said about each entry, without what the entry carries.
--
-- KEYS: the dead letter. ARGV: after (an id), until (an id), how many to look at, a reason or nothing.
--
-- Returns {cursor, entries}: the last id looked at, or nothing when there are no more; and for each entry with that
-- reason {id, bytes, dead_reason, dead_detail, deliveries, original_stream, original_id, dead_at}.

local dead, after, until_id, limit, reason = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local NAMES = {'dead_reason', 'dead_detail', 'deliveries', 'original_stream', 'original_id', 'dead_at'}

local function header(id, flat)
  local found, bytes = {}, 0
  for at = 1, #flat, 2 do
    found[flat[at]] = flat[at + 1]
    bytes = bytes + #flat[at] + #flat[at + 1]
  end
  local line = {id, bytes}
  for at, name in ipairs(NAMES) do
    line[at + 2] = found[name] or ''
  end
  return line
end

local page = redis.call('XRANGE', dead, '(' .. after, until_id, 'COUNT', limit)
local lines = {}
for _, entry in ipairs(page) do
  local line = header(entry[1], entry[2])
  if reason == '' or line[3] == reason then
    lines[#lines + 1] = line
  end
end
return {#page == limit and page[#page][1] or '', lines}
