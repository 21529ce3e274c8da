-- Ends the lease of one item other than by confirming it.
-- KEYS: held, waiting, dead.  ARGV: the item as stored, 'requeue', 'return' or 'reject', most
-- deliveries (0: no end).  Returns 0 when the lease was lost: then nothing is changed.
local item, how, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('LREM', KEYS[1], -1, item) == 0 then
    return 0
end
local marks = #string.match(item, '^ *')
if how == 'return' then
    redis.call('RPUSH', KEYS[2], item)
elseif how == 'reject' or (most > 0 and marks + 1 >= most) then
    redis.call('LPUSH', KEYS[3], string.sub(item, marks + 1))
else
    redis.call('RPUSH', KEYS[2], ' ' .. item)
end
return 1
