-- Prolongs the lease of one item: in an epoch of its own, so that no other item's lease changes;
-- where it is in one already, or needs no more than all others have, that of its epoch.
-- KEYS: epochs, held where it is, held where it goes, spare.
-- ARGV: the item as stored, ms, the epoch where it goes.  Returns 0 when the lease was lost.
local epochs, held, own, spare = unpack(KEYS)
if not redis.call('LPOS', held, ARGV[1], 'RANK', -1) then
    -- Done before, if the answer was lost and it is asked again.
    return redis.call('LPOS', own, ARGV[1]) and 1 or 0
end
redis.call('LREM', spare, 1, '') -- harmless: it may be denied, and lets the script write when memory is full
local time = redis.call('TIME')
local finish = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('ZADD', epochs, 'GT', finish, ARGV[3])
if held ~= own then
    redis.call('LPUSH', own, ARGV[1])
    redis.call('LREM', held, -1, ARGV[1])
end
return 1
