-- Removes consumers that own nothing. One with pending entries is never removed: they would be lost with it.
--
-- KEYS: the task stream. ARGV: group, this consumer; the least idle time in ms of others, or "" to remove only this one.
-- Returns the names of the removed.

local tasks, group, me, idle = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local removed = {}
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', tasks, group)) do
  local info = {}
  for at = 1, #row, 2 do
    info[row[at]] = row[at + 1]
  end
  local gone = idle ~= '' and info['name'] ~= me and info['idle'] >= tonumber(idle)
  local leaving = idle == '' and info['name'] == me
  if info['pending'] == 0 and (gone or leaving) then
    redis.call('XGROUP', 'DELCONSUMER', tasks, group, info['name'])
    removed[#removed + 1] = info['name']
  end
end
return removed
