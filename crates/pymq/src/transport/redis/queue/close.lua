-- Ends an epoch: what it holds goes back to the head of the queue as it was, in its old order.
-- KEYS: epochs, lease, held, waiting.  ARGV: epoch, most items this time, 1 to keep a tombstone.
-- Returns 1 when items are left.
redis.call('DEL', KEYS[2])
for _ = 1, tonumber(ARGV[2]) do
    local item = redis.call('LPOP', KEYS[3])
    if not item then
        if ARGV[3] == '1' then
            redis.call('ZADD', KEYS[1], redis.call('TIME')[1] * 1000, ARGV[1])
        else
            redis.call('ZREM', KEYS[1], ARGV[1])
        end
        return 0
    end
    redis.call('RPUSH', KEYS[4], item)
end
return 1
