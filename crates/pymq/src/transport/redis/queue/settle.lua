-- Ends the lease of one item other than by confirming it.
-- KEYS: held, waiting, dead, spare, later, held where else it may be.
-- ARGV: the item as stored, 'requeue', 'return' or 'reject', most deliveries
-- (0: no end), most dead letters (0: all are kept), after how many ms a requeued item may be taken (0: at once), what names this settlement, the hint channel, why the item dies if it does: a
-- number, and the parts of a letter that follow it; what the names of the urgent lists begin with.
-- Returns 0 when the lease was lost: then nothing is changed; else 1 and how many old dead letters made
-- room.
local held, waiting, dead, spare, later, other = unpack(KEYS)
if not redis.call('LPOS', held, ARGV[1], 'RANK', -1) then
    if other == held or not redis.call('LPOS', other, ARGV[1], 'RANK', -1) then
        return 0
    end
    held = other
end
redis.call('LREM', spare, 1, '') -- harmless: it may be denied, and lets the script write when memory is full
local queue = {
    waiting = waiting, urgent = ARGV[10], dead = dead,
    most = tonumber(ARGV[3]), letters = tonumber(ARGV[4]),
    why = { reason = tonumber(ARGV[8]), words = ARGV[9] },
}
local delay, defer = tonumber(ARGV[5]), nil
if delay > 0 then
    defer = function(item)
        put_later(later, item, delay, clock(), ARGV[6], 0)
    end
end
local died = push(queue, ARGV[1], ARGV[2], defer)
redis.call('LREM', held, -1, ARGV[1])
lead(queue)
if defer then
    redis.pcall('PUBLISH', ARGV[7], 'later') -- nothing depends on it
end
return 1 + (died and shorten(queue) or 0)
