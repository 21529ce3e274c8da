-- Ends the lease of one item other than by confirming it.
-- KEYS: held, waiting, dead, spare, later.  ARGV: the item as stored, 'requeue', 'return' or 'reject',
-- most deliveries (0: no end), after how many ms a requeued item may be taken (0: at once), what names
-- this settlement, the hint channel.  Returns 0 when the lease was lost: then nothing is changed.
local held, waiting, dead, spare, later = unpack(KEYS)
if not redis.call('LPOS', held, ARGV[1], 'RANK', -1) then
    return 0
end
redis.call('LREM', spare, 1, '') -- harmless: it may be denied, and lets the script write when memory is full
local delay, defer = tonumber(ARGV[4]), nil
if delay > 0 then
    defer = function(item)
        put_later(later, item, delay, clock(), ARGV[5], 0)
    end
end
push(waiting, dead, ARGV[1], ARGV[2], tonumber(ARGV[3]), defer)
redis.call('LREM', held, -1, ARGV[1])
if defer then
    redis.pcall('PUBLISH', ARGV[6], 'later') -- nothing depends on it
end
return 1
