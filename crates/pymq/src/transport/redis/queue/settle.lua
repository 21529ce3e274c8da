-- Ends the lease of one item other than by confirming it.
-- KEYS: held, waiting, dead, spare.  ARGV: the item as stored, 'requeue', 'return' or 'reject', most
-- deliveries (0: no end).  Returns 0 when the lease was lost: then nothing is changed.
local held, waiting, dead, spare = unpack(KEYS)
if not redis.call('LPOS', held, ARGV[1], 'RANK', -1) then
    return 0
end
redis.call('LREM', spare, 1, '') -- harmless: it may be denied, and lets the script write when memory is full
push(waiting, dead, ARGV[1], ARGV[2], tonumber(ARGV[3]))
redis.call('LREM', held, -1, ARGV[1])
return 1
