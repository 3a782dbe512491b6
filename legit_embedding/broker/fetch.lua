-- Take messages off their lists and note them as unacknowledged, as kombu does, in one step.
-- KEYS: the hash and the sorted set of what is unacknowledged, then the lists in order of preference.
-- ARGV: the time in seconds; the most messages; after how many bytes to stop; how many messages of ordinary tasks at
-- most (-1: any number); then the names of the tasks that are not ordinary.
-- Returns whether ordinary messages were left behind (1 or 0), then the number of a list and a message in turn. The
-- number is negative where the message is not kombu's, and no note was made.
local taken, bytes, left = {}, 0, 0
local most, ordinary = tonumber(ARGV[2]), tonumber(ARGV[4])
local special = {}
for at = 5, #ARGV do
  special[ARGV[at]] = true
end

local function text(value)
  return type(value) == 'string' and value or ''
end

-- The message's tag and route, and whether an ordinary task is in it; nothing where it is not kombu's. A message in
-- Celery's first protocol does not name its task here, and does not count as ordinary.
local function read(item)
  local ok, message = pcall(cjson.decode, item)
  local properties = ok and type(message) == 'table' and message.properties
  if type(properties) ~= 'table' or type(properties.delivery_tag) ~= 'string' or properties.delivery_tag == '' then
    return
  end
  local info = type(properties.delivery_info) == 'table' and properties.delivery_info or {}
  local headers = type(message.headers) == 'table' and message.headers or {}
  local route = cjson.encode(text(info.exchange)) .. ', ' .. cjson.encode(text(info.routing_key))
  return properties.delivery_tag, route, text(headers.task) ~= '' and not special[headers.task]
end

for list = 3, #KEYS do
  while #taken < 2 * most and bytes < tonumber(ARGV[3]) do
    local item = redis.call('LINDEX', KEYS[list], -1)
    if not item then
      break
    end
    local tag, route, is_ordinary = read(item)
    if tag and is_ordinary and ordinary == 0 then
      left = 1
      break
    end
    if tag then
      -- Noted first: a server that refuses one of these commands keeps the message.
      redis.call('HSET', KEYS[1], tag, '[' .. item .. ', ' .. route .. ']')
      redis.call('ZADD', KEYS[2], ARGV[1], tag)
      if is_ordinary and ordinary > 0 then
        ordinary = ordinary - 1
      end
    end
    redis.call('RPOP', KEYS[list])
    bytes = bytes + #item
    taken[#taken + 1] = tag and list - 2 or 2 - list
    taken[#taken + 1] = item
  end
end
return {left, taken}
