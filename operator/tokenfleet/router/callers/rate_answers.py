"""What a caller is told of its limits: header lines as OpenAI sends them, and the 429 that says when to come back.

Pure, and the same whoever keeps the buckets. A level is what a bucket has left; it fills by its limit in a minute, so all that
is told follows from limits and levels. Only limits that exist are told of.
"""

from functools import lru_cache
from math import ceil
from typing import Final

from tokenfleet.router.rejections import REQUESTS_LIMITED, TOKENS_LIMITED, Rejected
from tokenfleet.router.terms import Rate

_MINUTE: Final = 60.0
_LINES: Final = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
_MILLISECONDS: Final = (*(b"%dms" % number for number in range(1000)), b"1s")


def header_lines(rate: Rate, requests: float, tokens: float) -> bytes:
    """Of any answer, by the levels of both buckets."""
    most_requests, most_tokens = rate.requests_per_minute, rate.tokens_per_minute
    lines = _template(most_requests, most_tokens)
    if most_requests is None:
        return lines % _left(most_tokens, tokens) if most_tokens is not None else lines
    if most_tokens is None:
        return lines % _left(most_requests, requests)
    return lines % (_left(most_requests, requests) + _left(most_tokens, tokens))


def refusal(rate: Rate, wanted: int, requests: float, tokens: float) -> Rejected:
    """Of a request that wants so many tokens, of which there are not enough, or that is one too many itself."""
    lines = header_lines(rate, requests, tokens)
    limit = rate.tokens_per_minute
    size = f"This request may take {wanted} tokens (prompt and answer, estimated)"
    if limit is not None and wanted > limit:
        message = f"{size}, more than the limit of {limit} a minute, so it would never be let in."
        message += " Shorten the prompt, or set a lower max_tokens."
        return Rejected(TOKENS_LIMITED, message, param="max_tokens", lines=lines)
    wait_tokens = (wanted - tokens) * _MINUTE / limit if limit is not None else 0.0
    wait_requests = (1.0 - requests) * _MINUTE / rate.requests_per_minute if rate.requests_per_minute is not None else 0.0
    seconds = max(1, ceil(max(wait_tokens, wait_requests)))
    again = f"Try again in {seconds} s."
    if wait_requests >= wait_tokens:
        message = f"The limit of {rate.requests_per_minute} requests a minute is used up. {again}"
        return Rejected(REQUESTS_LIMITED, message, retry_after=seconds, lines=lines)
    message = f"{size}; of the limit of {limit} a minute {max(0, int(tokens))} are left. {again}"
    return Rejected(TOKENS_LIMITED, message, retry_after=seconds, lines=lines)


def duration(seconds: float) -> bytes:
    """As OpenAI writes one: 20ms, 1s, 6m0s. Rounded up, to milliseconds below a second, to seconds above."""
    if seconds > 1.0:
        whole = ceil(seconds)
        return b"%ds" % whole if whole < 60 else b"%dm%ds" % divmod(whole, 60)
    return _MILLISECONDS[ceil(seconds * 1000.0)] if seconds > 0.0 else b"0ms"


@lru_cache(maxsize=1024)
def _template(requests: int | None, tokens: int | None) -> bytes:
    """All that is the same each time for these limits; the rest is what `_left` gives, for each of them."""
    limits = ((b"requests", requests), (b"tokens", tokens))
    return b"".join([_LINES % (name, limit, name, name) for name, limit in limits if limit is not None])


def _left(limit: int, level: float) -> tuple[int, bytes]:
    """What is left now, and when it is all there again."""
    return int(level) if level > 0.0 else 0, duration((limit - level) * _MINUTE / limit)
