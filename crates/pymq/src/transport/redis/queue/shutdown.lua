-- Shuts a queue down and tells those who wait.
-- KEYS: shutdown flag, spare.  ARGV: the hint channel.
redis.call('DEL', KEYS[2]) -- harmless, and lets the script write when memory is full
redis.call('SET', KEYS[1], '1')
redis.call('PUBLISH', ARGV[1], 'shutdown')
return 1
