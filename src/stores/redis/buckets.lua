-- Takes from, converts and ends buckets; the state and its arithmetic are those of domain/bucket.ts.
-- All keys of a call have one hash tag. Needs GET, SET PX, DEL and TIME; nothing newer than Redis 6.2.
--
-- ARGV[1]  now in ms for tests, whose buckets then never vanish; 0 takes the server's clock
-- ARGV[2]  the last ms at which this call is still wanted, by the server's clock; 0: always
-- ARGV[3]  how many leases share what is left of a bucket
-- ARGV[4]  number of limits that follow, each "capacity rate interval at"; `at` is the instant from
--          which the limit holds, and orders the limits of a bucket
-- then, for each key, its anchor and "limit want unit lend back under force"
--          limit   number of the limit, from 1; 0 ends the bucket for good
--          want    tokens to take, as many as there are, in multiples of `unit`
--          lend    most tokens to take on top, as a lease, once all of `want` was there
--          back    unused tokens of a lease that come home
--          under   the `last` under which that lease was given
--          force   1 where the limit is the one to have, though the bucket names a later one
--
-- Gives now, then for each key: got, remaining, last refill. `got` is -1 where the bucket has a newer
-- limit or has ended, and -2 where the key holds something that is no bucket; nothing was taken then.
-- Gives now alone when the call came too late; then nothing was done.
--
-- State: "1 remaining last capacity rate interval at", or with tokens on lease "2 remaining last home
-- lent capacity rate interval at"; absent is full. `lent` bounds what may come home from leases given since `last`, `home` what may
-- come home from those given in the interval before; older ones have lost their claim. Tokens on
-- lease leave room in the bucket, and what a refill puts into that room must not come home on top:
-- so home is cut to it, and remaining + home + lent never exceeds the capacity.
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local match, format = string.match, string.format
local LATER_MS_MAX = 60000
local TTL_MS_MAX = 1e14
local ENDED_MS = 120000

local now = tonumber(ARGV[1])
local isReal = now == 0
if isReal then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
end
local notAfter = tonumber(ARGV[2])
if notAfter > 0 and now > notAfter then return { now } end
local lessees = tonumber(ARGV[3])
local limitCount = tonumber(ARGV[4])

local function parseLimit(text)
  local capacity, rate, interval, at = match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  if not at then return nil end
  local limit = { text = text, capacity = tonumber(capacity), rate = tonumber(rate), interval = tonumber(interval), at = tonumber(at) }
  limit.refills = limit.rate > 0 and limit.interval > 0
  return limit
end

local function toGrid(limit, anchor, at)
  if not limit.refills then return anchor end
  return anchor + floor((at - anchor) / limit.interval) * limit.interval
end

local function refill(rem, last, limit, at)
  if not limit.refills then return rem, last, 0 end
  local intervals = floor((at - last) / limit.interval)
  if intervals <= 0 then return rem, last, 0 end
  if intervals >= ceil((limit.capacity - rem) / limit.rate) then
    rem = limit.capacity
  else
    rem = rem + intervals * limit.rate
  end
  return rem, last + intervals * limit.interval, intervals
end

-- `convert` of domain/bucket.ts, at the instant from which the new limit holds.
local function convert(rem, last, from, to, anchor)
  rem, last = refill(rem, last, from, to.at)
  local used = from.capacity - rem
  if used <= 0 then return to.capacity, toGrid(to, anchor, now) end
  return to.capacity - used, toGrid(to, anchor, max(to.at, last))
end

local limits = {}
for i = 1, limitCount do limits[i] = parseLimit(ARGV[4 + i]) end
local jobs = {}
local function parseJob(text)
  local which, want, unit, lend, back, under, force =
    match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+) (-?%d+) ([01])$')
  local job = {
    limit = limits[tonumber(which)], want = tonumber(want), unit = tonumber(unit),
    lend = tonumber(lend), back = tonumber(back), under = tonumber(under), force = force == '1',
  }
  jobs[text] = job
  return job
end

local call, pcall = redis.call, redis.pcall
local reply = { now }
local at = 4 + limitCount

for i = 1, #KEYS do
  local key, anchor, jobText = KEYS[i], ARGV[at + 1], ARGV[at + 2]
  at = at + 2
  local job = jobs[jobText] or parseJob(jobText)
  local limit = job.limit
  local got, rem, last, home, lent, isMoved = 0, 0, 0, 0, 0, false
  local state = pcall('GET', key)
  if limit == nil then
    call('SET', key, '1 ended', 'PX', ENDED_MS)
  elseif state == false then
    rem, last = limit.capacity, toGrid(limit, tonumber(anchor), now)
  else
    local remText, lastText, homeText, lentText, limitText
    if type(state) == 'string' then
      remText, lastText, limitText = match(state, '^1 (-?%d+) (-?%d+) (.+)$')
      if not limitText then
        remText, lastText, homeText, lentText, limitText = match(state, '^2 (-?%d+) (-?%d+) (%d+) (%d+) (.+)$')
      end
    end
    if not limitText then
      got = state == '1 ended' and -1 or -2
    else
      rem, last = tonumber(remText), tonumber(lastText)
      if homeText then home, lent = tonumber(homeText), tonumber(lentText) end
      if limitText ~= limit.text then
        local from = parseLimit(limitText)
        if not from then
          got = -2
        elseif from.at > limit.at and not job.force then
          got = -1
        elseif from.capacity ~= limit.capacity or from.rate ~= limit.rate or from.interval ~= limit.interval then
          rem, last = convert(rem, last, from, limit, tonumber(anchor))
          home, lent, isMoved = 0, 0, true
        end
      end
    end
  end
  if got == 0 and limit ~= nil then
    -- After the clock of the server stepped far back, or the bucket would stand still until then.
    if last - now > LATER_MS_MAX then
      last, home, lent, isMoved = toGrid(limit, tonumber(anchor), now), 0, 0, true
    end
    local intervals
    rem, last, intervals = refill(rem, last, limit, now)
    if intervals > 0 then
      home = intervals == 1 and min(lent, limit.capacity - rem) or 0
      lent = 0
    end
    local want, back = job.want, job.back
    if back > 0 then
      if job.under == last then
        back = min(back, lent)
        lent = lent - back
      elseif job.under == last - limit.interval then
        back = min(back, home)
        home = home - back
      else
        back = 0
      end
      rem = rem + back
    end
    if want > 0 then
      got = min(want, max(rem, 0))
      if job.unit > 1 then got = got - got % job.unit end
      rem = rem - got
      if job.lend > 0 and got == want then
        local extra = min(job.lend, floor(max(rem, 0) / lessees))
        got, rem, lent = got + extra, rem - extra, lent + extra
      end
    end
    if got > 0 or back > 0 or isMoved then
      local text
      if home > 0 or lent > 0 then
        text = format('2 %.0f %.0f %.0f %.0f ', rem, last, home, lent) .. limit.text
      else
        text = format('1 %.0f %.0f ', rem, last) .. limit.text
      end
      local ttl = TTL_MS_MAX
      if limit.refills and isReal then
        ttl = last + max(1, ceil((limit.capacity - rem) / limit.rate)) * limit.interval - now
      end
      if ttl < TTL_MS_MAX then call('SET', key, text, 'PX', max(1, ttl)) else call('SET', key, text) end
    end
  end
  local n = 3 * i - 1
  reply[n], reply[n + 1], reply[n + 2] = got, rem, last
end
return reply
