-- Does something to those of the given entries that are pending and this consumer's own; leaves every other alone.
--
-- KEYS: the task stream. ARGV: group, consumer, idle in ms; "keep", "take" or "return"; then for each entry: its id, how
-- often it was tried (not used to keep).
--   keep    it is being worked on: another moment until others may claim it
--   take    it is tried once more: that counts
--   return  others may claim it at once; counts as often as it was tried
--
-- Returns {id, fields} for each entry that was taken; else the ids of the entries that are this consumer's.

local group, consumer, idle, what = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local found = {}
for at = 5, #ARGV, 2 do
  local id, tries = ARGV[at], ARGV[at + 1]
  local pending = redis.call('XPENDING', KEYS[1], group, id, id, 1)
  if #pending == 1 and pending[1][2] == consumer then
    local claim = {'XCLAIM', KEYS[1], group, consumer, 0, id, 'IDLE', idle}
    if what ~= 'keep' then
      claim[#claim + 1] = 'RETRYCOUNT'
      claim[#claim + 1] = what == 'take' and tries + 1 or tries
    end
    if what ~= 'take' then
      claim[#claim + 1] = 'JUSTID'
    end
    -- Nothing comes back for an entry that was deleted meanwhile: it is pending no more.
    local claimed = redis.call(unpack(claim))
    if claimed[1] then
      found[#found + 1] = claimed[1]
    end
  end
end
return found
