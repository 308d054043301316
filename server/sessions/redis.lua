-- The objects that servers share. Every change is one run of this script, and Redis runs one at a time.
-- Times are Redis' own, in milliseconds.
--
-- KEYS[1]  sorted set: the keys of all objects, by when they are forgotten.
-- KEYS[2]  an object, a hash (`look` takes several, KEYS[2] and on):
--            expected     how many views it will have
--            due, quorum  when it is decided with what is there, of how many views at least
--            decided      of how many counted layers the wishes are a consequence
--            wishesend    when the vote is taken though wishes are left
--            vote         the vote; from then on no layer is counted any more
--            id, list, ttl, most  the object's name, and how its vote is listed: the key of a stream of its owner's
--                         votes, for how long, how many at most
--          and of each view, D being the hash of its device's id:
--            frame:D      frame id
--            layers:D     how many layers have an answer
--            token:D      who works, or has worked, out the last one
--            until:D      while the next one is worked out: when others may take it over
--            more:D       what may follow the last one
--            counted:D    how many layers are counted
--            belief:D, classes:D, looks:D  what these say together, of how many classes, how many are pictures
--            wish:D       what is wished of it: layer, bytes, side
--          and of each of its layers L:
--            print:D:L    the frame's fingerprint
--            answer:D:L   what it shows
--          or, for `votes`, such a stream; or, for `probe`, a string
-- ARGV[1]  what to do; ARGV[2] D; ARGV[3] the caller's token; ARGV[4] L; the rest as below.
--
-- Answers {outcome, detail, expected, is due, is overdue, decided, vote, and of each view D, counted, belief,
-- classes, more, looks, wish}

local command, device, token, layer = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local objects, key = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Ends the work on a layer; a view of no other layer is removed.
local function drop(key, object, device)
  local layers = tonumber(object.views[device].layers or 0)
  redis.call('HDEL', key, 'token:' .. device, 'until:' .. device, 'print:' .. device .. ':' .. layers)
  object.views[device]['until'], object.views[device].token = nil, nil
  if layers == 0 then
    redis.call('HDEL', key, 'frame:' .. device)
    object.views[device] = nil
  end
end

-- An object without what is stored of its layers, which may be long. Work that has not been heard of for too long is
-- dropped: a retry starts afresh.
local function read(key)
  local object, names = {views = {}, layers = 0, counted = 0, wishes = 0}, {}
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if not name:match('^%l+:%x+:%d+$') then names[#names + 1] = name end
  end
  if #names == 0 then return object end
  local values = redis.call('HMGET', key, unpack(names))
  for index, name in ipairs(names) do
    local part, device = name:match('^(%l+):(%x+)$')
    if part then
      object.views[device] = object.views[device] or {}
      object.views[device][part] = values[index]
    elseif name == 'id' or name == 'list' or name == 'vote' then
      object[name] = values[index]
    else
      object[name] = tonumber(values[index])
    end
  end
  for device, view in pairs(object.views) do
    if view['until'] and tonumber(view['until']) <= now then drop(key, object, device) end
  end
  for _, view in pairs(object.views) do
    object.layers = object.layers + tonumber(view.counted or 0)
    if view.counted then object.counted = object.counted + 1 end
    if view.wish then object.wishes = object.wishes + 1 end
  end
  object.isdue = object.due and now >= object.due and object.counted >= object.quorum
  object.isoverdue = object.wishes > 0 and now >= object.wishesend
  return object
end

local function answer(outcome, object, detail)
  local said = {outcome, detail or '', object.expected or 0, object.isdue and 1 or 0, object.isoverdue and 1 or 0,
    object.decided or 0, object.vote or ''}
  for device, view in pairs(object.views) do
    for _, part in ipairs({device, view.counted or '', view.belief or '', view.classes or '', view.more or '',
      view.looks or '', view.wish or ''}) do
      said[#said + 1] = part
    end
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
    all[index - 1] = answer(next(object.views) and 'known' or 'unknown', object)
  end
  return all
end

local object = read(key)

-- decide (counted layers, whether wishes are overdue, vote, or an empty string and the time for new wishes; and for
-- each wish D and what is wished): taken only if this follows from how the object stands now. Answers {whether it
-- was taken, how many wishes are new, how the object stands}.
if command == 'decide' then
  local taken, new = 0, 0
  local isnew = object.decided ~= object.layers or object.isoverdue
  if tonumber(ARGV[2]) == object.layers and ARGV[3] == (object.isoverdue and '1' or '0') and not object.vote and isnew then
    local wanted = {}
    for index = 6, #ARGV, 2 do wanted[ARGV[index]] = ARGV[index + 1] end
    for device, view in pairs(object.views) do
      if view.wish and not wanted[device] then redis.call('HDEL', key, 'wish:' .. device) end
      if wanted[device] and view.wish ~= wanted[device] then
        redis.call('HSET', key, 'wish:' .. device, wanted[device])
        new = new + 1
      end
    end
    taken = 1
    if ARGV[4] == '' then
      redis.call('HSET', key, 'decided', object.layers)
      if new > 0 then redis.call('HSET', key, 'wishesend', now + tonumber(ARGV[5])) end
    else
      redis.call('HSET', key, 'vote', ARGV[4])
      redis.call('XADD', object.list, 'MAXLEN', object.most, '*', 'object', object.id, 'expected', object.expected,
        'vote', ARGV[4])
      redis.call('PEXPIRE', object.list, object.ttl)
    end
    object = read(key)
  end
  return {taken, new, answer('known', object)}
end

local view = object.views[device]
local layers = tonumber(view and view.layers or 0)
local is_mine = view and view.token == token
local is_worked_out = view and view['until']

-- claim (frame id, fingerprint, expected views, lease, time to live, list, id, most): `claimed`, the caller is to work
-- the layer out, with the answer to layer 0 where it is a later one; `busy`, another does, or the one before is worked out; `answered`, with the answer; or the refusal:
-- `another` (with the frame id of the view and the time until it is forgotten), `unexpected`, `superfluous`,
-- `complete`, `early`.
if command == 'claim' then
  local frame, print, expected = ARGV[5], ARGV[6], tonumber(ARGV[7])
  local lease, ttl = tonumber(ARGV[8]), tonumber(ARGV[9])
  local place, first = device .. ':' .. layer, layer > 0 and redis.call('HGET', key, 'answer:' .. device .. ':0')
  if view then
    local known = redis.call('HGET', key, 'print:' .. place)
    if view.frame ~= frame or (known and known ~= print) then
      return answer('another', object, view.frame .. ' ' .. redis.call('PTTL', key))
    elseif layer < layers then
      return answer('answered', object, redis.call('HGET', key, 'answer:' .. place))
    elseif is_worked_out and not (is_mine and layer == layers) then
      return answer('busy', object)
    elseif layer > layers then
      return answer('early', object)
    elseif is_worked_out then
      return answer('claimed', object, first)  -- asked again: the first answer was lost on the way
    elseif view.more == '0' then
      return answer('complete', object)
    end
  elseif layer > 0 then
    return answer('early', object)
  elseif not next(object.views) then  -- new, or whoever opened it got no answer: it starts afresh
    redis.call('DEL', key)
    object.expected = expected
  elseif object.expected ~= expected then
    return answer('unexpected', object)
  else
    local views = 0
    for _ in pairs(object.views) do views = views + 1 end
    if views >= expected then return answer('superfluous', object) end
  end
  redis.call('HSET', key, 'expected', object.expected, 'frame:' .. device, frame, 'token:' .. device, token,
    'until:' .. device, now + lease, 'print:' .. place, print)
  redis.call('HSET', key, 'ttl', ttl, 'list', ARGV[10], 'id', ARGV[11], 'most', ARGV[12])
  redis.call('PEXPIRE', key, ttl)
  -- To the microsecond, so that of two objects the one that was looked at earlier is forgotten first.
  redis.call('ZADD', objects, string.format('%.3f', clock[1] * 1000 + clock[2] / 1000 + ttl), key)
  redis.call('PEXPIRE', objects, ttl)
  return answer('claimed', object, first)
end

if not is_mine then return answer('lost', object) end

-- renew (lease): the caller is still at it.
if command == 'renew' and is_worked_out then
  redis.call('HSET', key, 'until:' .. device, now + tonumber(ARGV[5]))
end

-- release: there will be no answer.
if command == 'release' and is_worked_out then
  drop(key, object, device)
  if not next(object.views) then
    redis.call('DEL', key)
    redis.call('ZREM', objects, key)
  end
end

-- settle (answer, likeliest classes by all layers, number of classes, what may follow, 1 of a picture, most objects,
-- time from the first view to the decision or 0, quorum): `counted` or `late`, with the number of objects that were
-- forgotten to make room; or `undecided`, and nothing is stored: the object is to be decided first, for this layer
-- came after the deadline. Asked again, it changes nothing.
if command == 'settle' then
  if not object.vote and (object.isoverdue or (object.isdue and object.decided ~= object.layers)) then
    return answer('undecided', object)
  end
  local forgotten = {}
  if is_worked_out then
    redis.call('HDEL', key, 'until:' .. device)
    redis.call('HSET', key, 'answer:' .. device .. ':' .. layer, ARGV[5], 'layers:' .. device, layer + 1,
      'more:' .. device, ARGV[8])
    if not object.vote then
      redis.call('HSET', key, 'counted:' .. device, layer + 1, 'belief:' .. device, ARGV[6],
        'classes:' .. device, ARGV[7], 'looks:' .. device, (view.looks or 0) + ARGV[9])
      redis.call('HDEL', key, 'wish:' .. device)
      local patience = tonumber(ARGV[11])
      if patience > 0 and not object.due then
        redis.call('HSET', key, 'due', now + patience, 'quorum', ARGV[12])
      end
    end
    redis.call('ZREMRANGEBYSCORE', objects, '-inf', now)
    local superfluous = redis.call('ZCARD', objects) - tonumber(ARGV[10])
    if superfluous > 0 then
      local popped = redis.call('ZPOPMIN', objects, math.min(superfluous, 100))
      for index = 1, #popped, 2 do
        redis.call('DEL', popped[index])
        forgotten[#forgotten + 1] = popped[index]
      end
    end
    object = read(key)
    view = object.views[device]
  end
  local is_counted = view and view.counted and tonumber(view.counted) > layer
  return answer(is_counted and 'counted' or 'late', object, tostring(#forgotten))
end

return answer('done', object)
