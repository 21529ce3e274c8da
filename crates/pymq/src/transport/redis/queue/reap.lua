-- Gives back what epochs hold whose lease is over. One that cannot be given back stays, and keeps
-- no other from it.
-- KEYS: epochs, waiting, dead, spare.  ARGV: prefix of held items, most items this time.
-- Returns how many went back, how many died, and 1 when there is more to do.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, 200)
if #due == 0 then
    return { 0, 0, 0 }
end
redis.call('LPOP', KEYS[4]) -- harmless: it may be denied, and lets the script write when memory is full
local back, died, left, problem = 0, 0, tonumber(ARGV[2]), nil
for _, epoch in ipairs(due) do
    local well, one, two = pcall(end_epoch, KEYS[1], KEYS[2], KEYS[3], ARGV[1], epoch, left)
    if well then
        back, died, left = back + one, died + two, left - one - two
    else
        problem = one
    end
    if left <= 0 then
        break
    end
end
if problem then
    error(problem, 0)
end
return { back, died, (left <= 0 or #due == 200) and 1 or 0 }
