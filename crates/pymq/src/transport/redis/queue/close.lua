-- Ends epochs of a consumer that leaves, the newest first.
-- KEYS: epochs, waiting, dead, spare.  ARGV: what the names of lists of held items begin with, what
-- those of urgent ones do, most items this time, epochs.
-- Returns how many went back, 1 when items are left, how many old dead letters made room, and of each
-- item that died, after how many deliveries.
local epochs, waiting, dead, spare = unpack(KEYS)
redis.call('LPOP', spare) -- harmless: it may be denied, and lets the script write when memory is full
local keys = { epochs = epochs, waiting = waiting, dead = dead, held = ARGV[1], urgent = ARGV[2] }
local all, dropped, left, deaths = 0, 0, tonumber(ARGV[3]), {}
for i = 4, #ARGV do
    local gone, room = end_epoch(keys, ARGV[i], left, deaths)
    all, dropped, left = all + gone, dropped + room, left - gone
    if left <= 0 then
        break
    end
end
return { all - #deaths, left <= 0 and 1 or 0, dropped, unpack(deaths) }
