-- Gives back what epochs hold whose lease is over, the longest over first.
-- KEYS: epochs, waiting, dead, spare.
-- ARGV: what the names of lists of held items begin with, what those of urgent ones do, most items this
-- time, how many epochs to leave out: those that could not be given back before.
-- Returns how many went back, 1 when there is more to do, how many old dead letters made room, and of
-- each item that died, after how many deliveries.
local epochs, waiting, dead, spare = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGE', epochs, '-inf', now, 'BYSCORE', 'LIMIT', ARGV[4], 200)
if #due == 0 then
    return { 0, 0, 0 }
end
redis.call('LPOP', spare) -- harmless: it may be denied, and lets the script write when memory is full
local keys = { epochs = epochs, waiting = waiting, dead = dead, held = ARGV[1], urgent = ARGV[2] }
local all, dropped, left, deaths = 0, 0, tonumber(ARGV[3]), {}
for _, epoch in ipairs(due) do
    local gone, room = end_epoch(keys, epoch, left, deaths)
    all, dropped, left = all + gone, dropped + room, left - gone
    if left <= 0 then
        break
    end
end
return { all - #deaths, (left <= 0 or #due == 200) and 1 or 0, dropped, unpack(deaths) }
