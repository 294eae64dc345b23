"""The script that Redis runs for rates_redis.py: the same buckets as rates.py, for many callers in one atomic call.

KEYS: one pair of buckets a step. ARGV[1]: a JSON array with five numbers a step: the limits of requests and tokens a minute
(0: none), how much to take of each (below zero: give back), and 1 where that must be there to be taken, else 0. Answers three
integers a step: whether it was taken, and what is left of requests and tokens, in thousandths.

A pair is a string: the microsecond of its last change, then level and limit of requests and of tokens. It expires once both
are full.
"""

from hashlib import sha1
from typing import Final

SCRIPT: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function refilled(level, before, limit, minutes)
  if before == 0 then return limit end
  return math.min(before, level + minutes * before) + limit - before
end

local function seconds_to_full(level, limit)
  return limit > 0 and (limit - level) * 60 / limit or 0
end

local numbers = cjson.decode(ARGV[1])
local answers = {}
for step, key in ipairs(KEYS) do
  local first = (step - 1) * 5
  local requests_limit, tokens_limit = numbers[first + 1], numbers[first + 2]
  local take_requests, take_tokens = numbers[first + 3], numbers[first + 4]
  local asked = numbers[first + 5] == 1

  local requests, tokens = requests_limit, tokens_limit
  local stored = redis.call('GET', key)
  if stored then
    local at, r, r_limit, t, t_limit = string.match(stored, '(%S+) (%S+) (%S+) (%S+) (%S+)')
    at, r, r_limit, t, t_limit = tonumber(at), tonumber(r), tonumber(r_limit), tonumber(t), tonumber(t_limit)
    if not asked then requests_limit, tokens_limit = r_limit, t_limit end
    local minutes = math.max(0, now - at) / 60000000
    requests = refilled(r, r_limit, requests_limit, minutes)
    tokens = refilled(t, t_limit, tokens_limit, minutes)
  end

  local enough = (requests_limit == 0 or requests >= take_requests) and (tokens_limit == 0 or tokens >= take_tokens)
  if enough or not asked then
    requests = math.min(requests_limit, requests - (requests_limit > 0 and take_requests or 0))
    tokens = math.min(tokens_limit, tokens - (tokens_limit > 0 and take_tokens or 0))
    local seconds = math.max(seconds_to_full(requests, requests_limit), seconds_to_full(tokens, tokens_limit))
    local pair = string.format('%.0f %.17g %.0f %.17g %.0f', now, requests, requests_limit, tokens, tokens_limit)
    redis.call('SET', key, pair, 'PX', math.ceil(seconds * 1000) + 1000)
  end
  answers[#answers + 1] = enough and 1 or 0
  answers[#answers + 1] = math.floor(requests * 1000)
  answers[#answers + 1] = math.floor(tokens * 1000)
end
return answers
"""
SHA1: Final = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
