-- Forgets epochs that hold nothing.
-- KEYS: epochs.  ARGV: prefix of held items, epochs.
local epochs = KEYS[1]
for i = 2, #ARGV do
    if redis.call('EXISTS', ARGV[1] .. ARGV[i]) == 0 then
        redis.call('ZREM', epochs, ARGV[i])
    end
end
return 1
