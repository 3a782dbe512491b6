-- Takes entries over that nobody has cared for, without counting that as a delivery.
--
-- KEYS: the task stream. ARGV: group, consumer, the least idle time in ms, cursor, count.
-- Returns the next cursor, and {id, deliveries} for each entry.

local tasks, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local reply = redis.call('XAUTOCLAIM', tasks, group, consumer, ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'JUSTID')
local found = {}
for _, id in ipairs(reply[2]) do
  local pending = redis.call('XPENDING', tasks, group, id, id, 1)
  if pending[1] then
    found[#found + 1] = {id, pending[1][4]}
  end
end
return {reply[1], found}
