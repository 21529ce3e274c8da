-- Prolongs the lease of an epoch that holds an item; never shortens it.
-- KEYS: held, lease.  ARGV: the item as stored, ms.  Returns 0 when the lease was lost.
if not redis.call('LPOS', KEYS[1], ARGV[1]) then
    return 0
end
local left = redis.call('PTTL', KEYS[2])
if left < 0 then
    return 0
end
if left < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return 1
