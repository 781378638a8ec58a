-- The arithmetic of window.rs, on the clock of Redis: in microseconds, and all at once.
-- KEYS[1]: the window. ARGV: calls, period. Returns how long to wait; 0 if the call was counted.
local calls, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local found = redis.call('HMGET', KEYS[1], 'over', 'previous', 'current')
local over, previous, current = tonumber(found[1]) or 0, tonumber(found[2]), tonumber(found[3])
-- A clock that was set back must not make anybody wait for longer than a window lasts.
if now >= over or over > now + 2 * period then
    over, previous, current = now + 2 * period, 0, 0
elseif now >= over - period then
    over, previous, current = over + period, current, 0
end

local rest = over - period - now
local free = math.max(calls - current, 0)
if previous * rest < free * period then
    redis.call('HSET', KEYS[1], 'over', string.format('%.0f', over), 'previous', previous, 'current', current + 1)
    redis.call('PEXPIRE', KEYS[1], math.ceil((over - now) / 1000))
    return 0
end

local function latest_rest(count, room)
    return math.min(math.max(math.ceil(room * period / math.max(count, 1)) - 1, 0), period)
end

if calls == 0 then
    return period
elseif free == 0 then
    return rest + period - latest_rest(current, calls)
end
return rest - math.min(latest_rest(previous, free), rest)
