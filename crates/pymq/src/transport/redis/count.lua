-- Counts the subscribers of topics, where the node has the slot of the key.
-- KEYS: a key of that slot.  ARGV: the topics.  Returns name, number, name, number.
return redis.call('PUBSUB', 'NUMSUB', unpack(ARGV))
