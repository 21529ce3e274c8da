-- Claims the most urgent items. Each is moved by one command, so that a refusal leaves it where it is.
-- KEYS: waiting, held, held of what is fetched ahead, spare.
-- ARGV: what the names of the urgent lists begin with, how many items now, how many ahead.
-- Returns the items, in their order.
local waiting, held, ahead, spare = unpack(KEYS)
redis.call('RPOP', spare) -- harmless: it may be denied, and lets the script write when memory is full
local queue = { waiting = waiting, urgent = ARGV[1] }
local now, most, items = tonumber(ARGV[2]), ARGV[2] + ARGV[3], {}
local lists, place = filled(queue), 1
while #items < most do
    local first = redis.call('LRANGE', waiting, -1, -1)[1]
    local urgent = lists[place]
    local from = first and waiting
    if urgent and (not first or priority_of(first) < urgent) then
        from = queue.urgent .. urgent
    end
    if not from then
        break
    end
    local item = redis.pcall('LMOVE', from, #items < now and held or ahead, 'RIGHT', 'LEFT')
    if type(item) == 'table' then
        if #items == 0 then
            return item -- the refusal; behind items, the next claim meets it
        end
        break
    elseif item then
        items[#items + 1] = item
    else
        place = place + 1 -- that list is empty by now
    end
end
lead(queue)
return items
