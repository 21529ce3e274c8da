-- Prolongs the leases of epochs, never shortening one. An epoch that holds something and is not
-- registered, because it is new or the server forgot, is registered; one that holds nothing and is
-- not registered stays so, and leaves no key.
-- KEYS: epochs, shutdown flag, spare, later, who waits.
-- ARGV: lease in ms, prefix of held items, who has waited long (nothing: nobody) and for how many ms
-- that holds, epochs.
-- Returns the server's time in ms, 1 if the queue is shut down, in how many ms the next item is due
-- (-1: nothing is), then for each epoch whether it is alive.
--
-- What is held is registered first: a right that is refused behind that leaves nothing with nobody.
local epochs, shutdown, spare, later, waits = unpack(KEYS)
-- Harmless, and lets the script write when memory is full.
local may_take = redis.pcall('LREM', spare, 1, '')
local time = clock()
local now = math.floor(time / 1000)
local finish = now + ARGV[1]
local answer = {}
local holds = false
for i = 5, #ARGV do
    local known = redis.call('ZADD', epochs, 'XX', 'INCR', 0, ARGV[i])
    local alive = known or redis.call('EXISTS', ARGV[2] .. ARGV[i]) == 1
    if alive and (not known or tonumber(known) < finish) then
        redis.call('ZADD', epochs, finish, ARGV[i])
    end
    answer[i - 1] = alive and 1 or 0
    holds = holds or alive
end
if type(may_take) == 'table' then
    redis.call('LREM', spare, 1, '') -- refused again, and this tells the line: what is taken could not be confirmed
end
answer[1], answer[2], answer[3] = now, redis.call('EXISTS', shutdown), next_due(later, time)
-- Who holds something is in the registry. Only counts depend on this, so that a user may not be allowed it.
if ARGV[3] ~= '' and not holds then
    redis.pcall('ZADD', waits, now + ARGV[4], ARGV[3])
    if type(redis.pcall('PEXPIRE', waits, ARGV[4])) == 'table' then
        redis.pcall('ZREM', waits, ARGV[3]) -- it would stay when its process dies
    end
end
return answer
