-- Publishes a message, where the node has the slot of the key, and counts topics before it does.
-- KEYS: a key of that slot.  ARGV: the topic, the message, topics to count.
-- Returns the receivers, then a count for each topic.
local answer = { 0 }
if #ARGV > 2 then
    local counted = redis.call('PUBSUB', 'NUMSUB', unpack(ARGV, 3))
    for place = 2, #counted, 2 do
        answer[#answer + 1] = counted[place]
    end
end
answer[1] = redis.call('PUBLISH', ARGV[1], ARGV[2])
return answer
