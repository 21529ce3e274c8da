-- Notes that items are shown that were fetched ahead: from now on their delivery counts. Pushed first: an
-- item is in two lists for a moment, never in none.
-- KEYS: epochs, the list of what was fetched ahead, that of what was shown, spare.
-- ARGV: the names of the two in the registry, the items.  Returns how many were there.
local epochs, ahead, shown, spare = unpack(KEYS)
redis.call('LREM', spare, 1, '') -- harmless: it may be denied, and lets the script write when memory is full
local finish = redis.call('ZADD', epochs, 'XX', 'INCR', 0, ARGV[1])
if not finish then
    return 0 -- given back, or forgotten by the server: then the claimer finds out
end
redis.call('ZADD', epochs, 'NX', finish, ARGV[2])
local moved = 0
for i = 3, #ARGV do
    if redis.call('LPOS', ahead, ARGV[i], 'RANK', -1) then
        redis.call('LPUSH', shown, ARGV[i])
        redis.call('LREM', ahead, -1, ARGV[i])
        moved = moved + 1
    end
end
return moved
