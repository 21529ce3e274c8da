-- Gives the items of epochs without a lease back to the head of the queue, newest first, so that
-- they stand there in their old order; each with one delivery more, or as a dead letter.
-- KEYS: epochs, waiting, dead.
-- ARGV: prefix of leases, prefix of held items, most deliveries (0: no end), most items this time,
--       ms after which a dead epoch is forgotten.
-- Returns how many went back, how many died, and 1 when items are left.
local back, died, budget = 0, 0, tonumber(ARGV[4])
local most = tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epochs = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #epochs, 2 do
    local lease, held = ARGV[1] .. epochs[i], ARGV[2] .. epochs[i]
    if redis.call('EXISTS', lease) == 0 then
        redis.call('DEL', lease) -- harmless, and lets the script write when memory is full
        while budget > 0 do
            local item = redis.call('LPOP', held)
            if not item then
                break
            end
            budget = budget - 1
            local marks = #string.match(item, '^ *')
            if most > 0 and marks + 1 >= most then
                redis.call('LPUSH', KEYS[3], string.sub(item, marks + 1))
                died = died + 1
            else
                redis.call('RPUSH', KEYS[2], ' ' .. item)
                back = back + 1
            end
        end
        local death = tonumber(epochs[i + 1])
        if death == 0 then
            -- Kept as a tombstone: a command of the dead may still be on its way.
            redis.call('ZADD', KEYS[1], now, epochs[i])
        elseif now - death > tonumber(ARGV[5]) and redis.call('EXISTS', held) == 0 then
            redis.call('ZREM', KEYS[1], epochs[i])
        end
    end
end
return { back, died, budget == 0 and 1 or 0 }
