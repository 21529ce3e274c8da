-- Counts a queue's items by state; what is due waits, although nobody has lined it up yet.
-- KEYS: epochs, waiting, dead, later, who waits.  ARGV: what the names of lists of held items begin with, and what
-- those of urgent ones do.
-- Returns waiting, leased, dead, later, and how many connections hold items or have waited long for some.
local epochs, waiting, dead, later, waits = unpack(KEYS)
local leased = 0
for _, epoch in ipairs(redis.call('ZRANGE', epochs, 0, -1)) do
    leased = leased + redis.call('LLEN', ARGV[1] .. epoch)
end
local now = math.floor(clock() / 1000)
local seen, consumers = {}, 0
local function count(who)
    consumers = consumers + (seen[who] and 0 or 1)
    seen[who] = true
end
for _, epoch in ipairs(redis.call('ZRANGE', epochs, now, '+inf', 'BYSCORE')) do
    count(string.match(epoch, '^(.*)%-%d+%+?%.') or epoch)
end
for _, who in ipairs(redis.call('ZRANGE', waits, now, '+inf', 'BYSCORE')) do
    count(who)
end
local all, due = redis.call('ZCOUNT', later, '-inf', '+inf'), redis.call('ZCOUNT', later, '-inf', now)
local waits = redis.call('LLEN', waiting)
local queue = { waiting = waiting, urgent = ARGV[2] }
for _, priority in ipairs(filled(queue)) do
    waits = waits + redis.call('LLEN', queue.urgent .. priority)
end
return { waits + due, leased, redis.call('LLEN', dead), all - due, consumers }
