-- Ends epochs of a consumer that leaves, the newest first.
-- KEYS: epochs, waiting, dead, spare.  ARGV: prefix of held items, most items this time, epochs.
-- Returns 1 when items are left.
local epochs, waiting, dead, spare = unpack(KEYS)
redis.call('LPOP', spare) -- harmless: it may be denied, and lets the script write when memory is full
local left = tonumber(ARGV[2])
for i = 3, #ARGV do
    local back, died = end_epoch(epochs, waiting, dead, ARGV[1], ARGV[i], left)
    left = left - back - died
    if left <= 0 then
        return 1
    end
end
return 0
