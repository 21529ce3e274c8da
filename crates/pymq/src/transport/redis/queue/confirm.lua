-- Confirms an item that is in one of two lists, where nobody hears that it is not in the first.
-- KEYS: the lists.  ARGV: the item as stored.  Returns how many were confirmed.
local found = redis.call('LREM', KEYS[1], -1, ARGV[1])
if found == 0 then
    found = redis.call('LREM', KEYS[2], -1, ARGV[1])
end
return found
