-- Takes from, converts and ends buckets; the state and its arithmetic are those of domain/bucket.ts.
-- All keys of a call have one hash tag. Needs GET, MGET, SET, PSETEX and TIME; nothing newer than Redis 6.2.
--
-- ARGV[1]  now in ms for tests, whose buckets then never vanish; 0 takes the server's clock
-- ARGV[2]  the last ms at which this call is still wanted, by the server's clock; 0: always
-- ARGV[3]  how many leases share what is left of a bucket
-- ARGV[4]  1 where no key comes twice in KEYS
-- ARGV[5]  the anchor of each key, with spaces between
-- ARGV[6]  one character for each key: the number of its job, from 0
-- ARGV[7]  number of limits that follow, each "capacity rate interval at"; `at` is the instant from
--          which the limit holds, and orders the limits of a bucket
-- then the jobs, each "limit want unit lend back under force"
--          limit   number of the limit, from 1; 0 ends the bucket for good
--          want    tokens to take, as many as there are, in multiples of `unit`
--          lend    most tokens to take on top, as a lease, once all of `want` was there
--          back    unused tokens of a lease that come home
--          under   the `last` under which that lease was given
--          force   1 where the limit is the one to have, though the bucket names a later one
--
-- Gives now; then in one text, as that is the quickest to read, "remaining last " of each key; then, for
-- each key of which not just `want` was taken: its number from 0, and what was. That is -1 where the
-- bucket has a newer limit or has ended, and -2 where the key holds something that is no bucket;
-- nothing was taken then.
-- Gives now alone when the call came too late; then nothing was done.
--
-- State: "1 remaining last capacity rate interval at", or with tokens on lease
-- "2 remaining last home lent capacity rate interval at"; absent is full. `lent` bounds what may come
-- home from leases given since `last`, `home` what may come home from those given in the interval
-- before; older ones have lost their claim. Tokens on lease leave room in the bucket, and what a
-- refill puts into that room must not come home on top: so home is cut to it, and
-- remaining + home + lent never exceeds the capacity.
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local match, gmatch, byte, format = string.match, string.gmatch, string.byte, string.format
local call, pcall = redis.call, redis.pcall
local concat, spread = table.concat, table.unpack or unpack
local LATER_MS_MAX = 60000
local TTL_MS_MAX = 1e14
local ENDED_MS = 120000

local now = tonumber(ARGV[1])
local isReal = now == 0
if isReal then
  local time = call('TIME')
  now = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)
end
local notAfter = tonumber(ARGV[2])
if notAfter > 0 and now > notAfter then return { now } end
local lessees = tonumber(ARGV[3])
local isDistinct = ARGV[4] == '1'
local which = ARGV[6]
local limitCount = tonumber(ARGV[7])

local function parseLimit(text)
  local capacity, rate, interval, at = match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  if not at then return nil end
  local limit = { text = text, capacity = tonumber(capacity), rate = tonumber(rate), interval = tonumber(interval), at = tonumber(at) }
  limit.refills = limit.rate > 0 and limit.interval > 0
  return limit
end

local anchors
local function anchorOf(i)
  if not anchors then
    anchors = {}
    for text in gmatch(ARGV[5], '%S+') do anchors[#anchors + 1] = tonumber(text) end
  end
  return anchors[i]
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
for i = 1, limitCount do limits[i] = parseLimit(ARGV[7 + i]) end
local jobs = {}
for i = 8 + limitCount, #ARGV do
  local number, want, unit, lend, back, under, force =
    match(ARGV[i], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%-?%d+) ([01])$')
  jobs[#jobs + 1] = {
    limit = limits[tonumber(number)], want = tonumber(want), unit = tonumber(unit),
    lend = tonumber(lend), back = tonumber(back), under = tonumber(under), force = force == '1',
  }
end

-- One command for all keys is quicker; but it neither sees what a job before has written, nor tells a
-- key that holds something else from one that is not there.
local states = isDistinct and call('MGET', spread(KEYS)) or {}
local texts = {}
local reply = { now, '' }

for i = 1, #KEYS do
  local key = KEYS[i]
  local job = jobs[1 + byte(which, i)]
  local limit = job.limit
  local got, rem, last, home, lent, isMoved = 0, 0, 0, 0, 0, false
  -- The texts of `rem`, and of `last` with a blank before and after it, where they are known.
  local remText, lastText
  local state = states[i] or pcall('GET', key)
  if limit == nil then
    call('PSETEX', key, ENDED_MS, '1 ended')
  elseif state == false then
    rem, last = limit.capacity, toGrid(limit, anchorOf(i), now)
  else
    local homeText, lentText, limitText
    if type(state) == 'string' then
      remText, lastText, limitText = match(state, '^1 (%-?%d+)( %-?%d+ )(.+)$')
      if not limitText then
        remText, lastText, homeText, lentText, limitText = match(state, '^2 (%-?%d+)( %-?%d+ )(%d+) (%d+) (.+)$')
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
          rem, last = convert(rem, last, from, limit, anchorOf(i))
          home, lent, isMoved, remText, lastText = 0, 0, true, nil, nil
        end
      end
    end
  end
  if got == 0 and limit ~= nil then
    -- After the clock of the server stepped far back, or the bucket would stand still until then.
    if last - now > LATER_MS_MAX then
      last, home, lent, isMoved, lastText = toGrid(limit, anchorOf(i), now), 0, 0, true, nil
    end
    if limit.refills and now - last >= limit.interval then
      local intervals
      rem, last, intervals = refill(rem, last, limit, now)
      home = intervals == 1 and min(lent, limit.capacity - rem) or 0
      lent, remText, lastText = 0, nil, nil
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
      rem, remText = rem + back, nil
    end
    if want > 0 then
      if rem >= want then
        got = want
      elseif rem > 0 then
        got = rem - rem % job.unit
      end
      rem = rem - got
      if job.lend > 0 and got == want then
        local extra = min(job.lend, floor(max(rem, 0) / lessees))
        got, rem, lent = got + extra, rem - extra, lent + extra
      end
    end
    if got > 0 or back > 0 or isMoved then
      -- What may not fit 32 bits is not written by %d, which on some servers ends there.
      remText, lastText = format('%d', rem), lastText or format(' %.0f ', last)
      local text
      if home > 0 or lent > 0 then
        text = '2 ' .. remText .. lastText .. format('%d %d ', home, lent) .. limit.text
      else
        text = '1 ' .. remText .. lastText .. limit.text
      end
      local ttl = TTL_MS_MAX
      if limit.refills and isReal then
        ttl = last + max(1, ceil((limit.capacity - rem) / limit.rate)) * limit.interval - now
      end
      if ttl < TTL_MS_MAX then call('PSETEX', key, max(1, ttl), text) else call('SET', key, text) end
    end
  end
  texts[2 * i - 1], texts[2 * i] = remText or format('%d', rem), lastText or format(' %.0f ', last)
  if got ~= job.want then
    local n = #reply
    reply[n + 1], reply[n + 2] = i - 1, got
  end
end
reply[2] = concat(texts)
return reply
