-- Moves an entry that this consumer owns to the dead letter, and answers its task, in one atomic step.
--
-- KEYS: the task stream, the dead letter, the answer's stream, the default result stream.
-- ARGV: group, consumer, id, maxlen of result streams (0: never trim), how many arguments of the dead letter's entry
-- follow, those; then those of the answer.
-- Returns 1; or 0 where the entry is not this consumer's, and nothing was done.

local tasks, dead = KEYS[1], KEYS[2]
local group, consumer, id, maxlen, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local pending = redis.call('XPENDING', tasks, group, id, id, 1)
if #pending == 0 or pending[1][2] ~= consumer then
  return 0
end

redis.call('XADD', dead, '*', unpack(ARGV, 6, 5 + count))

local function answer(stream)
  if maxlen == '0' then
    return redis.pcall('XADD', stream, '*', unpack(ARGV, 6 + count))
  end
  return redis.pcall('XADD', stream, 'MAXLEN', '~', maxlen, '*', unpack(ARGV, 6 + count))
end

-- The dead letter has it: an answer that no stream takes is no reason to try the task again.
if type(answer(KEYS[3])) == 'table' then
  answer(KEYS[4])
end
redis.call('XACK', tasks, group, id)
redis.call('XDEL', tasks, id)
return 1
