-- Counts a queue's items by state.
-- KEYS: epochs, waiting, dead.  ARGV: prefix of held items.  Returns waiting, leased, dead.
local epochs, waiting, dead = unpack(KEYS)
local leased = 0
for _, epoch in ipairs(redis.call('ZRANGE', epochs, 0, -1)) do
    leased = leased + redis.call('LLEN', ARGV[1] .. epoch)
end
return { redis.call('LLEN', waiting), leased, redis.call('LLEN', dead) }
