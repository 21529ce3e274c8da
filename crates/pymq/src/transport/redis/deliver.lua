-- Publishes a message to an inbox, or keeps it in a list when nobody listens.
-- KEYS: the list.  ARGV: the message, how long it is kept in ms, the address.  Returns the receivers.
local receivers = redis.call('PUBLISH', ARGV[3], ARGV[1])
if receivers == 0 then
    redis.call('LPUSH', KEYS[1], ARGV[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return receivers
