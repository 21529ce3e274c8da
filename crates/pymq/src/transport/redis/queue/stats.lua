-- Counts a queue's items by state; what is due waits, although nobody has lined it up yet.
-- KEYS: epochs, waiting, dead, later.  ARGV: what the names of lists of held items begin with, and what
-- those of urgent ones do.
-- Returns waiting, leased, dead, later.
local epochs, waiting, dead, later = unpack(KEYS)
local leased = 0
for _, epoch in ipairs(redis.call('ZRANGE', epochs, 0, -1)) do
    leased = leased + redis.call('LLEN', ARGV[1] .. epoch)
end
local now = math.floor(clock() / 1000)
local all, due = redis.call('ZCOUNT', later, '-inf', '+inf'), redis.call('ZCOUNT', later, '-inf', now)
local waits = redis.call('LLEN', waiting)
local queue = { waiting = waiting, urgent = ARGV[2] }
for _, priority in ipairs(filled(queue)) do
    waits = waits + redis.call('LLEN', queue.urgent .. priority)
end
return { waits + due, leased, redis.call('LLEN', dead), all - due }
