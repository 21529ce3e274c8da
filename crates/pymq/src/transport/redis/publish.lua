-- Publishes a message, where the node has the slot of the key, and counts topics before it does.
-- KEYS: a key of that slot.  ARGV: the topic, the message, topics to count.
-- Returns the receivers; where topics are to be counted a list, the receivers and a count for each topic.
if #ARGV == 2 then
    return redis.call('PUBLISH', ARGV[1], ARGV[2])
end
local answer = { 0 }
local counted = redis.call('PUBSUB', 'NUMSUB', unpack(ARGV, 3))
for place = 2, #counted, 2 do
    answer[#answer + 1] = counted[place]
end
answer[1] = redis.call('PUBLISH', ARGV[1], ARGV[2])
return answer
