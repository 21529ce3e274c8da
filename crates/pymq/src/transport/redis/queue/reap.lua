-- Gives back what epochs hold whose lease is over, the longest over first.
-- KEYS: epochs, waiting, dead, spare.
-- ARGV: prefix of held items, most items this time, how many epochs to leave out: those that could
-- not be given back before.
-- Returns how many went back, 1 when there is more to do, how many old dead letters made room, and of
-- each item that died, after how many deliveries.
local epochs, waiting, dead, spare = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGE', epochs, '-inf', now, 'BYSCORE', 'LIMIT', ARGV[3], 200)
if #due == 0 then
    return { 0, 0, 0 }
end
redis.call('LPOP', spare) -- harmless: it may be denied, and lets the script write when memory is full
local queue = { waiting = waiting, dead = dead }
local all, dropped, left, deaths = 0, 0, tonumber(ARGV[2]), {}
for _, epoch in ipairs(due) do
    local gone, room = end_epoch(queue, epochs, ARGV[1], epoch, left, deaths)
    all, dropped, left = all + gone, dropped + room, left - gone
    if left <= 0 then
        break
    end
end
return { all - #deaths, (left <= 0 or #due == 200) and 1 or 0, dropped, unpack(deaths) }
