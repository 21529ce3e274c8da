-- What several scripts share about dead letters. One is
--   '\0letter\0' REASON ' ' TIME ' ' DELIVERIES ' ' PRIORITY '\0' ERROR '\0' WORDS '\0' ORIGIN '\0' ITEM
-- with the item's bytes as they were put and the server's time in ms. What is no such thing is the bare
-- item of a version that wrote nothing down.

local LETTER = '^%zletter%z%d+ %d+ %d+ (%d+)%z[^%z]*%z[^%z]*%z[^%z]*%z()'

local function letter_of(item, priority, deliveries, why)
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local numbers = string.format('%d %.0f %d %d', why.reason, now, deliveries, priority)
    return '\0letter\0' .. numbers .. '\0' .. why.words .. '\0' .. item
end

-- The item of a dead letter and its priority; in one that was put into a queue as it was and died again,
-- the inner one.
local function item_in(letter)
    local _, _, priority, start = string.find(letter, LETTER)
    local inner = start
    while inner do
        letter = string.sub(letter, inner)
        _, _, _, inner = string.find(letter, LETTER)
    end
    return letter, start and tonumber(priority) or 0
end
