-- What several scripts share: how an item that was held goes back.
--
-- A push comes before the take that belongs to it. Redis does not undo what a script did before it
-- failed, so an item whose push is refused must still be where it was; one whose take is refused
-- would be there twice, so scripts first try on a key that is never there whether they may take.

-- Pushes one item to the head of the queue, counted once more unless it is only 'return'ed, or to
-- the dead letters where it is 'reject'ed or was handed out for the last time. One that is counted
-- goes to where `defer` puts it, if that is given. Returns whether it is dead.
local function push(waiting, dead, item, how, most, defer)
    local marks = #string.match(item, '^ *')
    if how == 'return' then
        redis.call('RPUSH', waiting, item)
    elseif how == 'reject' or (most > 0 and marks + 1 >= most) then
        redis.call('LPUSH', dead, string.sub(item, marks + 1))
        return true
    elseif defer then
        defer(' ' .. item)
    else
        redis.call('RPUSH', waiting, ' ' .. item)
    end
    return false
end

-- Gives back what an epoch holds, newest first, so that it stands at the head in its old order, by
-- the policy in the epoch's name; what it had fetched ahead and shown to nobody, uncounted. Forgets the
-- epoch when it holds nothing more. Returns how many went back and how many died.
local function end_epoch(epochs, waiting, dead, prefix, epoch, limit)
    local held, back, died = prefix .. epoch, 0, 0
    local ahead, most = string.match(epoch, '(%+?)%.(%d+)$')
    most = tonumber(most) or 5
    local how = ahead == '+' and 'return' or 'requeue'
    for _, item in ipairs(redis.call('LRANGE', held, 0, limit - 1)) do
        if push(waiting, dead, item, how, most) then
            died = died + 1
        else
            back = back + 1
        end
        redis.call('LPOP', held)
    end
    if redis.call('EXISTS', held) == 0 then
        redis.call('ZREM', epochs, epoch)
    end
    return back, died
end

