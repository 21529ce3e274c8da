-- Ends the lease of one item other than by confirming it.
-- KEYS: held, waiting, dead, spare.  ARGV: the item as stored, 'requeue', 'return' or 'reject', most
-- deliveries (0: no end).  Returns 0 when the lease was lost: then nothing is changed.
if not redis.call('LPOS', KEYS[1], ARGV[1], 'RANK', -1) then
    return 0
end
redis.call('LREM', KEYS[4], 1, '') -- harmless: it may be denied, and lets the script write when memory is full
push(KEYS[2], KEYS[3], ARGV[1], ARGV[2], tonumber(ARGV[3]))
redis.call('LREM', KEYS[1], -1, ARGV[1])
return 1
