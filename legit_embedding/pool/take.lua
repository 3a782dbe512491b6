-- Take messages off their lists and note them as unacknowledged, as kombu does, in one step.
-- KEYS: the hash and the sorted set of what is unacknowledged, then the lists in order of preference.
-- ARGV: the time in seconds; the most messages; after how many bytes to stop.
-- Returns the number of a list and a message in turn. What is not kombu's is returned without a note.
local taken, bytes = {}, 0

local function note(item)
  local ok, message = pcall(cjson.decode, item)
  local properties = ok and type(message) == 'table' and message.properties
  if type(properties) ~= 'table' or type(properties.delivery_tag) ~= 'string' then
    return
  end
  local info = type(properties.delivery_info) == 'table' and properties.delivery_info or {}
  local route = cjson.encode(info.exchange or '') .. ', ' .. cjson.encode(info.routing_key or '')
  redis.call('HSET', KEYS[1], properties.delivery_tag, '[' .. item .. ', ' .. route .. ']')
  redis.call('ZADD', KEYS[2], ARGV[1], properties.delivery_tag)
end

for list = 3, #KEYS do
  while #taken < 2 * tonumber(ARGV[2]) and bytes < tonumber(ARGV[3]) do
    local item = redis.call('RPOP', KEYS[list])
    if not item then
      break
    end
    note(item)
    bytes = bytes + #item
    taken[#taken + 1] = list - 2
    taken[#taken + 1] = item
  end
end
return taken
