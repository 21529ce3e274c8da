-- What several scripts share: how an item that was held goes back.
--
-- Each item is pushed first and taken away second. Redis does not undo what a script did before it
-- failed, so an item whose push is refused (no memory, no right) is still where it was. Were the taking
-- refused afterwards, the item would be there twice; so a script tries first, on a key that is never
-- there, whether it may take at all.
--
-- A queue is here a table: `waiting`, `urgent` and `dead`, its keys; `most`, how many deliveries an item has (0: no
-- end); `letters`, how many dead letters are kept (0: all); and `why` an item dies: `reason`, a number,
-- and `words`, the parts of a letter that follow it.

local TOO_MANY = { reason = 1, words = '\0\0' }

-- Pushes one item to the head of the queue, counted once more unless it is only 'return'ed, or to
-- the dead letters where it is 'reject'ed or was handed out for the last time. One that is counted
-- goes to where `defer` puts it, if that is given. Returns after how many deliveries it died, or nothing.
local function push(queue, item, how, defer)
    local marks = #string.match(item, '^ *')
    if how == 'return' then
        push_first(queue, item)
    elseif how == 'reject' or (queue.most > 0 and marks + 1 >= queue.most) then
        local priority = queue.urgent == '' and 0 or priority_of(item)
        local bare = item_in(string.sub(item, marks + priority + 1))
        redis.call('LPUSH', queue.dead, letter_of(bare, priority, marks + 1, queue.why))
        return marks + 1
    elseif defer then
        defer(' ' .. item)
    else
        push_first(queue, ' ' .. item)
    end
end

-- Drops the oldest dead letters beyond those that are kept; says how many. Refused, they stay.
local function shorten(queue)
    local dropped = 0
    local excess = queue.letters > 0 and redis.call('LLEN', queue.dead) - queue.letters or 0
    while dropped < math.min(excess, 1000) and type(redis.pcall('RPOP', queue.dead)) == 'string' do
        dropped = dropped + 1
    end
    return dropped
end

-- Gives back what an epoch holds, newest first, so that it stands at the head in its old order, by
-- the policy in the epoch's name; what it had fetched ahead and shown to nobody, uncounted. Forgets the
-- epoch when it holds nothing more. Appends to `deaths` how often what died was delivered; returns how
-- many went, and how many old dead letters made room.
local function end_epoch(keys, epoch, limit, deaths)
    local held, gone, died = keys.held .. epoch, 0, #deaths
    local ahead, most, letters, urgent = string.match(epoch, '(%+?)%.(%d+)%.?(%d*)(p?)$')
    local queue = { waiting = keys.waiting, dead = keys.dead, urgent = urgent == 'p' and keys.urgent or '' }
    queue.most, queue.letters, queue.why = tonumber(most) or 5, tonumber(letters) or 0, TOO_MANY
    local how = ahead == '+' and 'return' or 'requeue'
    for _, item in ipairs(redis.call('LRANGE', held, 0, limit - 1)) do
        deaths[#deaths + 1] = push(queue, item, how)
        redis.call('LPOP', held)
        gone = gone + 1
    end
    if redis.call('EXISTS', held) == 0 then
        redis.call('ZREM', keys.epochs, epoch)
    end
    lead(queue)
    return gone, #deaths > died and shorten(queue) or 0
end

