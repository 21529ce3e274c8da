-- What several scripts share about queues with priorities: a list for each, but for the lowest, whose items
-- lie in the plain list. A priority is told by tabs behind the marks, which decoders of JSON skip too.
--
-- Whoever waits at the server waits at the plain list. So where that is empty, the first of the urgent
-- ones leads in it; where it leads and another one is to stand before it, it goes back to its own list.
-- A queue is here a table with `waiting`, the plain list, and `urgent`, what the names of the others begin
-- with: nothing where the queue has no priorities.

local function priority_of(item)
    return math.min(#string.match(item, '^ *(\t*)'), 9)
end

-- The priorities that have items in lists of their own, the highest first.
local function filled(queue)
    local found = {}
    for priority = 9, queue.urgent == '' and 10 or 1, -1 do
        if redis.call('EXISTS', queue.urgent .. priority) == 1 then
            found[#found + 1] = priority
        end
    end
    return found
end

local function list_of(queue, item)
    local priority = queue.urgent == '' and 0 or priority_of(item)
    return priority == 0 and queue.waiting or queue.urgent .. priority
end

-- Lets the first of the urgent ones lead where nothing else waits. Refused, whoever waits sees it a
-- little later.
local function lead(queue)
    if queue.urgent ~= '' and redis.call('EXISTS', queue.waiting) == 0 then
        local highest = filled(queue)[1]
        if highest then
            redis.pcall('LMOVE', queue.urgent .. highest, queue.waiting, 'RIGHT', 'RIGHT')
        end
    end
end

-- Pushes an item to the head of those of its priority.
local function push_first(queue, item)
    local first = queue.urgent ~= '' and redis.call('LRANGE', queue.waiting, -1, -1)[1]
    if first and priority_of(first) > 0 then
        redis.call('LMOVE', queue.waiting, queue.urgent .. priority_of(first), 'RIGHT', 'RIGHT')
    end
    redis.call('RPUSH', list_of(queue, item), item)
end

-- Pushes an item to the tail of those of its priority.
local function push_last(queue, item)
    redis.call('LPUSH', list_of(queue, item), item)
end

