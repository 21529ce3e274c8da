-- What several scripts share about dead letters. One is
--   '\0letter\0' REASON ' ' TIME ' ' DELIVERIES ' ' PRIORITY '\0' ERROR '\0' WORDS '\0' ORIGIN '\0' ITEM
-- with the item's bytes as they were put and the server's time in ms. What is no such thing is the bare
-- item of a version that wrote nothing down.

local LETTER = '^%zletter%z%d+ %d+ %d+ (%d+)%z[^%z]*%z[^%z]*%z[^%z]*%z()'

local function letter_of(item, deliveries, why)
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    return string.format('\0letter\0%d %.0f %d 0\0', why.reason, now, deliveries) .. why.words .. '\0' .. item
end

-- The item of a dead letter; in one that was put into a queue as it was and died again, the inner one.
local function item_in(letter)
    local _, _, _, start = string.find(letter, LETTER)
    while start do
        letter = string.sub(letter, start)
        _, _, _, start = string.find(letter, LETTER)
    end
    return letter
end
