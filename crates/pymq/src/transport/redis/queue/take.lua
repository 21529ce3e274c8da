-- Claims items where BLMOVE is refused: when memory is full, a script whose first write frees some
-- may go on. Pushed first: an item is in two lists for a moment, never in none.
-- KEYS: waiting, held, spare.  ARGV: most items.  Returns the items, oldest first.
local waiting, held, spare = unpack(KEYS)
redis.call('RPOP', spare) -- harmless: it may be denied, and lets the script write when memory is full
local items = {}
for i = 1, tonumber(ARGV[1]) do
    local item = redis.call('LRANGE', waiting, -1, -1)[1]
    if not item then
        break
    end
    redis.call('LPUSH', held, item)
    redis.call('RPOP', waiting)
    items[i] = item
end
return items
