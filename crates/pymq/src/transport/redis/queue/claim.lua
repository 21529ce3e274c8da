-- Claims items where BLMOVE is refused: when memory is full, a script whose first write frees
-- some may go on.
-- KEYS: waiting, held.  ARGV: most items.  Returns the items, oldest first.
local items = {}
for i = 1, tonumber(ARGV[1]) do
    local item = redis.call('RPOP', KEYS[1])
    if not item then
        break
    end
    redis.call('LPUSH', KEYS[2], item)
    items[i] = item
end
return items
