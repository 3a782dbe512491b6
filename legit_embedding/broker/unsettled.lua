-- Tells which of some messages are still in the hands of a worker, as far as this server knows.
--
-- KEYS: kombu's hash of the messages.
-- ARGV: their delivery tags.

local found = {}
for _, tag in ipairs(ARGV) do
  if redis.call('HEXISTS', KEYS[1], tag) == 1 then
    found[#found + 1] = tag
  end
end
return found
