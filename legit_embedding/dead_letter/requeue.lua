-- Puts dead entries back into the task stream, each in one step with its removal from the dead letter.
--
-- KEYS: the dead letter, the task stream. ARGV: the ids.
--
-- Returns one string an id: "+ID" back in the task stream under this id; "?" there is no such entry;
-- "-TEXT" left where it was, and why.

local dead, tasks = KEYS[1], KEYS[2]
local MOST_ARGUMENTS = 7000 -- Lua cannot pass more to one call

-- The entry as it was: without the fields that the dead letter added. They stand behind the original ones, so of
-- two with the same name the last is ours.
local function original(flat)
  local ours = {dead_reason = 1, dead_detail = 1, deliveries = 1, original_stream = 1, original_id = 1, dead_at = 1}
  local stream = ''
  local keep = {}
  for at = #flat - 1, 1, -2 do
    local name = flat[at]
    keep[at] = not ours[name]
    if ours[name] then
      ours[name] = nil
      if name == 'original_stream' then
        stream = flat[at + 1]
      end
    end
  end
  local fields = {}
  for at = 1, #flat, 2 do
    if keep[at] then
      fields[#fields + 1] = flat[at]
      fields[#fields + 1] = flat[at + 1]
    end
  end
  return stream, fields
end

local function requeue(id)
  local entry = redis.call('XRANGE', dead, id, id)[1]
  if not entry then
    return '?'
  end
  local stream, fields = original(entry[2])
  if stream ~= tasks then
    return '-it came from the stream "' .. stream .. '", not from "' .. tasks .. '"'
  end
  if #fields == 0 or #fields > MOST_ARGUMENTS then
    return '-it has ' .. #fields / 2 .. ' fields of its own'
  end
  local added = redis.pcall('XADD', tasks, '*', unpack(fields))
  if type(added) == 'table' then
    return '-' .. added['err']
  end
  redis.call('XDEL', dead, id)
  return '+' .. added
end

local replies = {}
for at, id in ipairs(ARGV) do
  replies[at] = requeue(id)
end
return replies
