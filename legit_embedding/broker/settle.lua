-- Removes messages that are settled from those that are not, as kombu does.
--
-- KEYS: kombu's sorted set of the delivery tags, and its hash of the messages.
-- ARGV: the tags.

local AT_ONCE = 1000 -- Lua passes just under 8,000 arguments to one call

for first = 1, #ARGV, AT_ONCE do
  local last = math.min(first + AT_ONCE - 1, #ARGV)
  redis.call('ZREM', KEYS[1], unpack(ARGV, first, last))
  redis.call('HDEL', KEYS[2], unpack(ARGV, first, last))
end
