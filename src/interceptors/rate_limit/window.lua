-- The arithmetic of window.rs, on the clock of Redis, in microseconds. It runs atomically.
-- KEYS[1]: the window. ARGV: calls, period. Returns how long to wait; 0 if the call was counted.
local calls, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Numbers are exact up to 2^53. So a product of a count below 2^32 and a time below 2^52 is three
-- digits of 20 bits, of which the first may be longer.
local digit = 0x100000
local function product(count, micros)
    local low = count * (micros % digit)
    local rest = math.floor(micros / digit)
    local middle = count * (rest % digit) + math.floor(low / digit)
    local high = count * math.floor(rest / digit) + math.floor(middle / digit)
    return high, middle % digit, low % digit
end

local function less(count, micros, other_count, other_micros)
    local a, b, c = product(count, micros)
    local x, y, z = product(other_count, other_micros)
    return a < x or a == x and (b < y or b == y and c < z)
end

-- The longest rest of the period with which a call fits.
local function latest_rest(count, room)
    count = math.max(count, 1)
    local quotient, remainder = 0, 0
    for _, part in ipairs({ product(room, period) }) do
        part = remainder * digit + part
        remainder = part % count
        quotient = quotient * digit + (part - remainder) / count
    end
    local exact = remainder == 0
    return math.min(exact and math.max(quotient - 1, 0) or quotient, period)
end

local found = redis.call('HMGET', KEYS[1], 'over', 'previous', 'current')
local over, previous, current = tonumber(found[1]) or 0, tonumber(found[2]), tonumber(found[3])
-- After the clock was set back, no client waits longer than a window lasts.
if now >= over or over > now + 2 * period then
    over, previous, current = now + 2 * period, 0, 0
elseif now >= over - period then
    over, previous, current = over + period, current, 0
end

local rest = over - period - now
local free = math.max(calls - current, 0)
if less(previous, rest, free, period) then
    redis.call('HSET', KEYS[1], 'over', string.format('%.0f', over), 'previous', previous, 'current', current + 1)
    redis.call('PEXPIRE', KEYS[1], math.ceil((over - now) / 1000))
    return 0
end

if calls == 0 then
    return period
elseif free == 0 then
    return rest + period - latest_rest(current, calls)
end
return rest - math.min(latest_rest(previous, free), rest)
