-- Counts a queue's items by state; what is due waits, although nobody has lined it up yet.
-- KEYS: epochs, waiting, dead, later.  ARGV: prefix of held items.
-- Returns waiting, leased, dead, later.
local epochs, waiting, dead, later = unpack(KEYS)
local leased = 0
for _, epoch in ipairs(redis.call('ZRANGE', epochs, 0, -1)) do
    leased = leased + redis.call('LLEN', ARGV[1] .. epoch)
end
local now = math.floor(clock() / 1000)
local all, due = redis.call('ZCOUNT', later, '-inf', '+inf'), redis.call('ZCOUNT', later, '-inf', now)
return { redis.call('LLEN', waiting) + due, leased, redis.call('LLEN', dead), all - due }
