-- Moves what is due to the tail of the queue, in the order of its time. Pushed first: an item is in
-- two places for a moment, never in none.
-- KEYS: later, waiting, shutdown flag, spare.  ARGV: most items this time, what the names of the urgent
-- lists begin with.
-- Returns in how many ms the next is due (-1: nothing is), and 1 if the queue is shut down.
local later, waiting, shutdown, spare = unpack(KEYS)
local now = clock()
local due = redis.call('ZRANGE', later, '-inf', math.floor(now / 1000), 'BYSCORE', 'LIMIT', 0, ARGV[1])
if #due > 0 then
    redis.call('ZREM', spare, '') -- harmless: it may be denied, and lets the script write when memory is full
end
local queue = { waiting = waiting, urgent = ARGV[2] }
for _, member in ipairs(due) do
    push_last(queue, item_of(member))
    redis.call('ZREM', later, member)
end
lead(queue)
return { next_due(later, now), redis.call('EXISTS', shutdown) }
