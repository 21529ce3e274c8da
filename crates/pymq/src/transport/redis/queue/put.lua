-- Appends items to a bounded queue, all or none.
-- KEYS: waiting, shutdown flag.  ARGV: most items, the items.
-- Returns the new length, -1 when there is no space, -2 when the queue is shut down.
if redis.call('EXISTS', KEYS[2]) == 1 then
    return -2
end
if redis.call('LLEN', KEYS[1]) + #ARGV - 1 > tonumber(ARGV[1]) then
    return -1
end
for i = 2, #ARGV, 1000 do
    redis.call('LPUSH', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
return redis.call('LLEN', KEYS[1])
