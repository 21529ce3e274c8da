-- Moves dead letters, oldest first, to the tail of the queue.
-- KEYS: dead, waiting.  ARGV: most items.  Returns how many.
for i = 1, tonumber(ARGV[1]) do
    local item = redis.call('RPOP', KEYS[1])
    if not item then
        return i - 1
    end
    redis.call('LPUSH', KEYS[2], item)
end
return tonumber(ARGV[1])
