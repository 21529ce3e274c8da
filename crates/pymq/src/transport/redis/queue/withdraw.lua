-- Takes items back that were appended to a queue that had been shut down.
-- KEYS: waiting.  ARGV: the items.  Returns how many were still there.
local found = 0
for i = #ARGV, 1, -1 do
    found = found + redis.call('LREM', KEYS[1], 1, ARGV[i])
end
return found
