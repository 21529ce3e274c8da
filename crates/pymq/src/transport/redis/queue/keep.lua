-- Prolongs the leases of epochs, never shortening one. An epoch that holds something and is not
-- registered, because it is new or the server forgot, is registered; one that holds nothing and is
-- not registered stays so, and leaves no key.
-- KEYS: epochs, shutdown flag, spare.  ARGV: lease in ms, prefix of held items, epochs.
-- Returns the server's time in ms, 1 if the queue is shut down, then for each epoch whether it is
-- alive.
local epochs, shutdown, spare = unpack(KEYS)
redis.call('LREM', spare, 1, '') -- harmless, and lets the script write when memory is full
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local finish = now + ARGV[1]
local answer = { now, redis.call('EXISTS', shutdown) }
for i = 3, #ARGV do
    local known = redis.call('ZADD', epochs, 'XX', 'INCR', 0, ARGV[i])
    local alive = known or redis.call('EXISTS', ARGV[2] .. ARGV[i]) == 1
    if alive and (not known or tonumber(known) < finish) then
        redis.call('ZADD', epochs, finish, ARGV[i])
    end
    answer[i] = alive and 1 or 0
end
return answer
