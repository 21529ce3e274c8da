-- Ends an epoch: what it holds goes back to the head of the queue, newest first, so that it stands
-- there in its old order; each with one delivery more, or as a dead letter.
-- KEYS: epochs, lease, held, waiting, dead.
-- ARGV: epoch, most deliveries (0: no end), most items this time, 1 to keep a tombstone.
-- Returns 1 when items are left.
redis.call('DEL', KEYS[2])
local most = tonumber(ARGV[2])
for _ = 1, tonumber(ARGV[3]) do
    local item = redis.call('LPOP', KEYS[3])
    if not item then
        if ARGV[4] == '1' then
            redis.call('ZADD', KEYS[1], redis.call('TIME')[1] * 1000, ARGV[1])
        else
            redis.call('ZREM', KEYS[1], ARGV[1])
        end
        return 0
    end
    local marks = #string.match(item, '^ *')
    if most > 0 and marks + 1 >= most then
        redis.call('LPUSH', KEYS[5], string.sub(item, marks + 1))
    else
        redis.call('RPUSH', KEYS[4], ' ' .. item)
    end
end
return 1
