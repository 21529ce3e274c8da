-- What several scripts share about items for later: a sorted set by the time at which they are due,
-- in ms of the server's clock.
--
-- A member is what makes it unique, a colon, and the item with its marks, so that equal items stay
-- as many as they are. It begins with the time of its put and its place there: of items that are due
-- in the same ms, the first that was put comes first.

-- The server's clock in microseconds.
local function clock()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

-- Puts an item that may be taken after so many ms.
local function put_later(later, item, delay, now, token, place)
    local member = string.format('%016d%06d', now, place) .. token .. ':' .. item
    redis.call('ZADD', later, math.ceil(now / 1000) + delay, member)
end

-- The item of a member; one that somebody else put there without a colon is all item.
local function item_of(member)
    return string.sub(member, (string.find(member, ':', 1, true) or 0) + 1)
end

-- In how many ms the next item is due; -1 where none is.
local function next_due(later, now)
    local first = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')
    return first[2] and math.max(0, tonumber(first[2]) - math.floor(now / 1000)) or -1
end


