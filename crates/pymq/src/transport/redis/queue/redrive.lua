-- Moves dead letters to the tail of a queue, as items that nobody has tried: the oldest, or those that are
-- named, in their order, as far as they are there. Pushed first: an item is in two lists for a moment,
-- never in none.
-- KEYS: dead, waiting, spare.  ARGV: what the names of the urgent lists there begin with; most items,
-- where none is named; the letters as stored, each with its place.
-- Returns how many.
local dead, waiting, spare = unpack(KEYS)
redis.call('RPOP', spare) -- harmless: it may be denied
redis.call('LREM', spare, 1, '') -- so is this
local queue = { waiting = waiting, urgent = ARGV[1] }
-- Returns the refusal, if there is one.
local function move(letter)
    local item, priority = item_in(letter)
    item = (queue.urgent == '' and '' or string.rep('\t', priority)) .. item
    local pushed = redis.pcall('LPUSH', list_of(queue, item), item)
    return type(pushed) == 'table' and pushed or nil
end
local moved, refusal = 0, nil
if #ARGV == 2 then
    while moved < tonumber(ARGV[2]) do
        local oldest = redis.call('LRANGE', dead, -1, -1)[1]
        refusal = oldest and move(oldest)
        if not oldest or refusal then
            break
        end
        redis.call('RPOP', dead)
        moved = moved + 1
    end
else
    moved, refusal = take_named(dead, ARGV, 3, move)
end
lead(queue)
return refusal or moved
