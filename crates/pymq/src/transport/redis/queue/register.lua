-- Makes an epoch known and alive; the one before it, if any, is left to be reaped.
-- KEYS: epochs, lease, shutdown flag.  ARGV: epoch, lease in ms, epoch before or ''.
-- Returns 1 when the queue is shut down.
redis.call('DEL', KEYS[2]) -- harmless, and lets the script write when memory is full
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
if ARGV[3] ~= '' then
    redis.call('ZADD', KEYS[1], redis.call('TIME')[1] * 1000, ARGV[3])
end
return redis.call('EXISTS', KEYS[3])
