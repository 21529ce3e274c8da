-- What several scripts share about dead letters that are named: each by its bytes and by its place, counted
-- from the oldest, where it was seen.

local TAKEN = '\0taken\0'

-- Takes those out that are there still, after `move` has done with each what is to be done with it; ends
-- where that is refused. What is taken is written over first and removed at the end, all at once: else a
-- long list would be walked through for each. Returns how many, and the refusal.
local function take_named(dead, named, start, move)
    local taken, written, writes, before, refusal = 0, 0, true, 0, nil
    for i = start, #named, 2 do
        local letter, place = named[i], tonumber(named[i + 1]) - before
        if redis.call('LRANGE', dead, -1 - place, -1 - place)[1] ~= letter then
            -- Others before it went meanwhile, or it did.
            local found = redis.call('LPOS', dead, letter, 'RANK', -1)
            local there = found and redis.call('LLEN', dead) - 1 - found
            before = before + (found and place - there or 0)
            place = there
        end
        if place then
            refusal = move(letter)
            if refusal then
                break
            end
            taken = taken + 1
            writes = writes and redis.pcall('LSET', dead, -1 - place, TAKEN).ok
            if writes then
                written = written + 1
            else
                redis.call('LREM', dead, -1, letter) -- LSET is denied
                before = before + 1
            end
        end
    end
    if written > 0 then
        redis.call('LREM', dead, -written, TAKEN)
    end
    return taken, refusal
end

