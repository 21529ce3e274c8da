-- Takes items back that were appended to a queue that had been shut down: all of them, or none when
-- a consumer was faster with one.
-- KEYS: waiting.  ARGV: the items.  Returns how many were taken back.
local counts = {}
for _, item in ipairs(ARGV) do
    counts[item] = (counts[item] or 0) + 1
end
for item, count in pairs(counts) do
    if #redis.call('LPOS', KEYS[1], item, 'COUNT', count) < count then
        return 0
    end
end
for item, count in pairs(counts) do
    redis.call('LREM', KEYS[1], count, item)
end
return #ARGV
