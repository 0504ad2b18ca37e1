-- One replica comes to the board. All moments are microseconds of the clock of Redis.
-- KEYS: the board, then buckets. ARGV: replica, the rate that it could use, capacity, seconds of a lease, its report; then for each
-- bucket how many tokens it let go, and the time that a token costs and that are saved up, in microseconds.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local replica, rate, capacity, lease_time = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]) * 1000000

local others, leased = {}, 0
local reports = redis.call('HGETALL', KEYS[1])
for i = 1, #reports, 2 do
  if #reports[i + 1] < 16 then
    redis.call('HDEL', KEYS[1], reports[i])
  elseif reports[i] ~= replica then
    local until_, lease, body = struct.unpack('>dd', reports[i + 1])
    -- What ends later than a lease can was written by a clock that was set back since, or by somebody else.
    if until_ > now and until_ <= now + lease_time and lease >= 0 then
      leased = leased + math.min(lease, capacity)
      others[#others + 1] = reports[i]
      others[#others + 1] = string.sub(reports[i + 1], body)
    else
      redis.call('HDEL', KEYS[1], reports[i])
    end
  end
end
local lease = math.max(0, math.min(rate, capacity - leased))
redis.call('HSET', KEYS[1], replica, struct.pack('>dd', now + lease_time, lease) .. ARGV[5])
redis.call('PEXPIRE', KEYS[1], lease_time / 1000 * 2)

local spent = {}
for i = 2, #KEYS do
  local at = 3 * i
  local count, token, saved = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local moment = tonumber(redis.call('GET', KEYS[i]) or 0) or 0
  if not (moment <= now + saved) then
    moment = now
  end
  moment = math.max(moment, now - saved) + count * token
  moment = math.min(math.max(moment, now - saved), now + saved)
  local left = math.ceil((moment + saved - now) / 1000)
  if left > 0 then
    redis.call('SET', KEYS[i], string.format('%.3f', moment), 'PX', left)
  else
    redis.call('DEL', KEYS[i])
  end
  spent[i - 1] = math.floor(moment - now)
end
return { struct.pack('>d', lease), others, spent }
