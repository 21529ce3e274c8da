-- Prolongs the lease of one item: in an epoch of its own, so that no other item's lease changes;
-- where it is in one already, or needs no more than all others have, that of its epoch.
-- KEYS: epochs, held where it is, held where it goes, spare.
-- ARGV: the item as stored, ms, the epoch where it goes.  Returns 0 when the lease was lost.
if not redis.call('LPOS', KEYS[2], ARGV[1], 'RANK', -1) then
    -- Done before, if the answer was lost and it is asked again.
    return redis.call('LPOS', KEYS[3], ARGV[1]) and 1 or 0
end
redis.call('LREM', KEYS[4], 1, '') -- harmless: it may be denied, and lets the script write when memory is full
local time = redis.call('TIME')
local finish = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('ZADD', KEYS[1], 'GT', finish, ARGV[3])
if KEYS[2] ~= KEYS[3] then
    redis.call('LPUSH', KEYS[3], ARGV[1])
    redis.call('LREM', KEYS[2], -1, ARGV[1])
end
return 1
