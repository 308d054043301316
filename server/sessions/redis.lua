-- The objects that servers share. Every change is one run of this script, and Redis runs one at a time.
-- Times are Redis' own, in milliseconds.
--
-- KEYS[1]  sorted set: the keys of all objects, by when they are forgotten.
-- KEYS[2]  an object, a hash (`look` takes several, KEYS[2] and on):
--            expected     how many views it will have
--            due, quorum  when its vote is taken, with how many views at least
--            voted        when it was taken; from then on no view is counted any more
--            id, list, ttl, most  the object's name, and how its vote is listed: the key of a stream of its owner's
--                         votes, for how long, how many at most
--          and of each view, D being the hash of its device's id:
--            frame:D      frame id and fingerprint
--            token:D      who works, or has worked, it out
--            until:D      while it is worked out: when others may take it over
--            answer:D     what it shows
--            first:D      its likeliest class, if it counts in the vote
--          or, for `votes`, such a stream; or, for `probe`, a string
-- ARGV[1]  what to do; ARGV[2] D; ARGV[3] the caller's token; the rest as below.
--
-- Answers {outcome, whether this run took the vote, detail, expected, whether there is a vote, first:D...}

local command, device, token = ARGV[1], ARGV[2], ARGV[3]
local objects, key = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function remove(key, object, device)
  object.views[device] = nil
  redis.call('HDEL', key, 'frame:' .. device, 'token:' .. device, 'until:' .. device)
end

-- An object without its answers, which may be long. Views whose worker has not been heard of for too long are
-- removed: a retry starts afresh.
local function read(key)
  local object, names = {views = {}}, {}
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if name:sub(1, 7) ~= 'answer:' then names[#names + 1] = name end
  end
  if #names == 0 then return object end
  local values = redis.call('HMGET', key, unpack(names))
  for index, name in ipairs(names) do
    local part, device = name:match('^(%l+):(%x+)$')
    if name == 'id' or name == 'list' then
      object[name] = values[index]
    elseif part then
      object.views[device] = object.views[device] or {}
      object.views[device][part] = values[index]
    else
      object[name] = tonumber(values[index])
    end
  end
  for device, view in pairs(object.views) do
    if view['until'] and tonumber(view['until']) <= now then remove(key, object, device) end
  end
  return object
end

local function count(object, part)
  local number = 0
  for _, view in pairs(object.views) do
    if view[part] then number = number + 1 end
  end
  return number
end

-- Takes the vote if it is time; 1 if this did it. Called before anything is counted too: what comes after the
-- deadline is late, even if nobody has asked since.
local function vote_if_due(key, object)
  local counted = count(object, 'first')
  if object.voted or counted == 0 then return 0 end
  local due = object.due and now >= object.due and counted >= object.quorum
  if counted < object.expected and not due then return 0 end
  object.voted = now
  redis.call('HSET', key, 'voted', now)
  if object.list then
    local entry = {'object', object.id, 'expected', object.expected}
    for _, view in pairs(object.views) do
      if view.first then
        entry[#entry + 1] = 'first'
        entry[#entry + 1] = view.first
      end
    end
    redis.call('XADD', object.list, 'MAXLEN', object.most, '*', unpack(entry))
    redis.call('PEXPIRE', object.list, object.ttl)
  end
  return 1
end

local function answer(outcome, taken, object, detail)
  local said = {outcome, taken, detail or '', object.expected or 0, object.voted and 1 or 0}
  for _, view in pairs(object.views) do
    if view.first then said[#said + 1] = view.first end
  end
  return said
end

-- probe: whether anything can be written.
if command == 'probe' then
  redis.call('SET', key, 1, 'PX', 60000)
  return {}
end

-- votes (after, limit, time to live): entries of a stream, the oldest first; after a cursor, or else the latest.
if command == 'votes' then
  local after, limit, oldest = ARGV[2], ARGV[3], now - tonumber(ARGV[4])
  if after ~= '' and tonumber(after:match('^%d+')) >= oldest then
    return redis.call('XRANGE', key, '(' .. after, '+', 'COUNT', limit)
  elseif after ~= '' then
    return redis.call('XRANGE', key, string.format('%d', oldest), '+', 'COUNT', limit)
  end
  local newest, latest = redis.call('XREVRANGE', key, '+', string.format('%d', oldest), 'COUNT', limit), {}
  for index = #newest, 1, -1 do latest[#latest + 1] = newest[index] end
  return latest
end

-- look: how each of the objects stands; `known` or `unknown`.
if command == 'look' then
  local all = {}
  for index = 2, #KEYS do
    local object = read(KEYS[index])
    local taken = vote_if_due(KEYS[index], object)
    all[index - 1] = answer(next(object.views) and 'known' or 'unknown', taken, object)
  end
  return all
end

local object = read(key)
local taken = vote_if_due(key, object)
local view = object.views[device]
local is_mine = view and view.token == token
local is_worked_out = view and view['until']

-- claim (frame, expected views, lease, time to live, list, id, most): `claimed`, the caller is to work the view out; `busy`, another
-- does; `answered`, with the answer; or the refusal: `another` (with that frame and the time until it is forgotten),
-- `unexpected`, `superfluous`.
if command == 'claim' then
  local frame, expected = ARGV[4], tonumber(ARGV[5])
  local lease, ttl = tonumber(ARGV[6]), tonumber(ARGV[7])
  if view then
    if view.frame ~= frame then
      return answer('another', taken, object, view.frame .. ' ' .. redis.call('PTTL', key))
    elseif not is_worked_out then
      return answer('answered', taken, object, redis.call('HGET', key, 'answer:' .. device))
    elseif not is_mine then
      return answer('busy', taken, object)
    end
    return answer('claimed', taken, object)  -- asked again: the first answer was lost on the way
  end
  local views = count(object, 'frame')
  if views == 0 then  -- new, or whoever opened it got no answer: it starts afresh
    redis.call('DEL', key)
    object.expected = expected
  elseif object.expected ~= expected then
    return answer('unexpected', taken, object)
  elseif views >= expected then
    return answer('superfluous', taken, object)
  end
  redis.call('HSET', key, 'expected', expected, 'frame:' .. device, frame, 'token:' .. device, token,
    'until:' .. device, now + lease)
  redis.call('HSET', key, 'ttl', ttl, 'list', ARGV[8], 'id', ARGV[9], 'most', ARGV[10])
  redis.call('PEXPIRE', key, ttl)
  -- To the microsecond, so that of two objects the one that was looked at earlier is forgotten first.
  redis.call('ZADD', objects, string.format('%.3f', clock[1] * 1000 + clock[2] / 1000 + ttl), key)
  redis.call('PEXPIRE', objects, ttl)
  return answer('claimed', taken, object)
end

if not is_mine then return answer('lost', taken, object) end

-- renew (lease): the caller is still at it.
if command == 'renew' and is_worked_out then
  redis.call('HSET', key, 'until:' .. device, now + tonumber(ARGV[4]))
end

-- release: there will be no answer.
if command == 'release' and is_worked_out then
  remove(key, object, device)
  if not next(object.views) then
    redis.call('DEL', key)
    redis.call('ZREM', objects, key)
  end
end

-- settle (answer, likeliest class, most objects, time from the first view to the vote or 0, quorum): `counted` or
-- `late`, with the number of objects that were forgotten to make room. Asked again, it changes nothing.
if command == 'settle' then
  local forgotten = {}
  if is_worked_out then
    redis.call('HDEL', key, 'until:' .. device)
    redis.call('HSET', key, 'answer:' .. device, ARGV[4])
    if not object.voted then
      view.first = ARGV[5]
      redis.call('HSET', key, 'first:' .. device, view.first)
      local patience = tonumber(ARGV[7])
      if patience > 0 and not object.due then
        object.due, object.quorum = now + patience, tonumber(ARGV[8])
        redis.call('HSET', key, 'due', object.due, 'quorum', object.quorum)
      end
      taken = vote_if_due(key, object)
    end
    redis.call('ZREMRANGEBYSCORE', objects, '-inf', now)
    local superfluous = redis.call('ZCARD', objects) - tonumber(ARGV[6])
    if superfluous > 0 then
      local popped = redis.call('ZPOPMIN', objects, math.min(superfluous, 100))
      for index = 1, #popped, 2 do
        redis.call('DEL', popped[index])
        forgotten[#forgotten + 1] = popped[index]
      end
    end
  end
  return answer(view.first and 'counted' or 'late', taken, object, tostring(#forgotten))
end

return answer('done', taken, object)
