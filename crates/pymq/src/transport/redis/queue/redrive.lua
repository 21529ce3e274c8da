-- Moves dead letters, oldest first, to the tail of the queue. Pushed first: an item is in two lists
-- for a moment, never in none.
-- KEYS: dead, waiting, spare.  ARGV: most items.  Returns how many.
local dead, waiting, spare = unpack(KEYS)
redis.call('RPOP', spare) -- harmless: it may be denied
for i = 1, tonumber(ARGV[1]) do
    local item = redis.call('LRANGE', dead, -1, -1)[1]
    if not item then
        return i - 1
    end
    redis.call('LPUSH', waiting, item)
    redis.call('RPOP', dead)
end
return tonumber(ARGV[1])
