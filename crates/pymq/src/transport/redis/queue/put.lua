-- Puts items into a queue that is bounded, or for later, or once, or urgent ones: all or none.
-- KEYS: waiting, shutdown flag, later, the id's key or one that is never there.
-- ARGV: most items (0: no bound), after how many ms they may be taken, what names this put, for how
-- many ms its id is remembered (0: it has none), the hint channel, what the names of the urgent lists
-- begin with, the items, all of one priority.
-- Returns 1; -1 when there is no space, -2 when the queue is shut down, -3 when it was done before.
local waiting, shutdown, later, id = unpack(KEYS)
local most, delay, token, window = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local queue = { waiting = waiting, urgent = ARGV[6] }
local known = window > 0 and redis.call('GET', id)
if known == token then
    return 1 -- by this very put, whose answer was lost
elseif redis.call('EXISTS', shutdown) == 1 then
    return -2
elseif known then
    return -3
end
if most > 0 then
    local there = redis.call('LLEN', waiting)
    for _, priority in ipairs(filled(queue)) do
        there = there + redis.call('LLEN', queue.urgent .. priority)
    end
    if redis.call('EXISTS', later) == 1 then
        there = there + redis.call('ZCOUNT', later, '-inf', '+inf')
    end
    if there + #ARGV - 6 > most then
        return -1
    end
end
local function put()
    if delay > 0 then
        local now = clock()
        for i = 7, #ARGV do
            put_later(later, ARGV[i], delay, now, token, i - 6)
        end
        return
    end
    for i = 7, #ARGV, 1000 do
        redis.call('LPUSH', list_of(queue, ARGV[7]), unpack(ARGV, i, math.min(i + 999, #ARGV)))
    end
end
-- The id first: a put that is refused takes it back, which needs no other right.
if window == 0 then
    put()
else
    redis.call('SET', id, token, 'PX', ARGV[4])
    if not pcall(put) then
        redis.call('SET', id, '', 'PX', 1)
        put() -- refused again: this time the error is the caller's, and tells its line
    end
end
lead(queue)
if delay > 0 then
    redis.pcall('PUBLISH', ARGV[5], 'later') -- nothing depends on it
end
return 1
