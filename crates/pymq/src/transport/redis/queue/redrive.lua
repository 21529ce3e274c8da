-- Moves dead letters to the tail of a queue, as items that nobody has tried: the oldest, or those that are
-- named, in their order, as far as they are there. Pushed first: an item is in two lists for a moment,
-- never in none.
-- KEYS: dead, waiting, spare.  ARGV: what the names of the urgent lists there begin with; most items,
-- where none is named; the letters as stored.
-- Returns how many.
local dead, waiting, spare = unpack(KEYS)
redis.call('RPOP', spare) -- harmless: it may be denied
redis.call('LREM', spare, 1, '') -- so is this
local queue, moved = { waiting = waiting, urgent = ARGV[1] }, 0
local function move(letter)
    local item, priority = item_in(letter)
    push_last(queue, (queue.urgent == '' and '' or string.rep('\t', priority)) .. item)
    moved = moved + 1
end
if #ARGV == 2 then
    while moved < tonumber(ARGV[2]) do
        local oldest = redis.call('LRANGE', dead, -1, -1)[1]
        if not oldest then
            break
        end
        move(oldest)
        redis.call('RPOP', dead)
    end
end
for i = 3, #ARGV do
    if redis.call('LPOS', dead, ARGV[i], 'RANK', -1) then
        move(ARGV[i])
        redis.call('LREM', dead, -1, ARGV[i])
    end
end
lead(queue)
return moved
