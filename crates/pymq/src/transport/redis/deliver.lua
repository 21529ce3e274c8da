-- Publishes a message to an inbox, or keeps it in the list of the same name when nobody listens.
-- KEYS: the address.  ARGV: the message, how long it is kept in ms.  Returns the receivers.
local receivers = redis.call('PUBLISH', KEYS[1], ARGV[1])
if receivers == 0 then
    redis.call('LPUSH', KEYS[1], ARGV[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return receivers
