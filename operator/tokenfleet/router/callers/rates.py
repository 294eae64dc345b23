"""How many requests and tokens a minute each caller gets: token buckets, filled continuously, in this router's own memory.

A bucket holds at most a minute's worth and starts full. `reserve` takes one request and the estimated tokens, or nothing:
what is refused costs the caller nothing. The reservation is settled with what the answer really used (which may leave a
debt), or cancelled where no engine did anything. Rates of a caller may change at any time; what was used stays used.

Everything is synchronous; `done` is called before `reserve` returns. rates_redis.py does the same for several routers.
"""

from collections.abc import Callable
from math import inf
from typing import Final, Protocol

import msgspec

from tokenfleet.router.callers.rate_answers import header_lines, refusal
from tokenfleet.router.rejections import Rejected
from tokenfleet.router.terms import Rate

SWEEP_SECONDS: Final = 60.0
"""How often full buckets are looked for, and forgotten."""


class Reservation(Protocol):
    """What a request may use. Ends once, by either verb; a second end does nothing."""

    @property
    def lines(self) -> bytes:
        """Header lines for the answer: where the caller stands."""

    def settle(self, tokens: int) -> None:
        """The answer has used so many."""

    def cancel(self) -> None:
        """The request has used nothing, and does not count."""


Done = Callable[[Reservation | Rejected], None]


class Rates(Protocol):
    """Whoever keeps the buckets."""

    def reserve(self, who: str, rate: Rate, tokens: int, done: Done) -> None:
        """For one request of `who`, with so many tokens by estimate. `done` is called once, now or soon."""

    def correct(self, who: str, rate: Rate, requests: int, tokens: int) -> None:
        """Take what a reservation took too little; below zero: give back. For whoever has no Reservation at hand."""


class Unlimited:
    """The reservation of whoever has no limits."""

    __slots__ = ()
    lines = b""

    def settle(self, tokens: int) -> None:
        pass

    def cancel(self) -> None:
        pass


UNLIMITED: Final = Unlimited()


def applied(own: Rate, default: Rate) -> Rate:
    """A key's own limits, each before the router's."""
    requests, tokens = own.requests_per_minute, own.tokens_per_minute
    if requests is not None and tokens is not None:
        return own
    if requests is None and tokens is None:
        return default
    if requests is None:
        requests = default.requests_per_minute
    if tokens is None:
        tokens = default.tokens_per_minute
    return Rate(requests, tokens)


class _Account:
    """Both buckets of one caller. A level is what may be taken now; below zero it is a debt. No limit: an endless level."""

    __slots__ = ("at", "rate", "requests", "requests_limit", "tokens", "tokens_limit")

    def __init__(self, rate: Rate, now: float) -> None:
        self.rate = rate
        self.at = now
        self.requests = self.requests_limit = float(rate.requests_per_minute or inf)
        self.tokens = self.tokens_limit = float(rate.tokens_per_minute or inf)

    def refill(self, now: float) -> None:
        """Up to now, which is later than the last time."""
        minutes, self.at = (now - self.at) / 60.0, now
        if (level := self.requests) < (limit := self.requests_limit):
            level += minutes * limit
            self.requests = level if level < limit else limit
        if (level := self.tokens) < (limit := self.tokens_limit):
            level += minutes * limit
            self.tokens = level if level < limit else limit

    def changed(self, rate: Rate) -> "_Account":
        """The same caller with other limits. What was used of a limit stays used."""
        account = _Account(rate, self.at)
        if self.requests < self.requests_limit:
            account.requests -= self.requests_limit - self.requests
        if self.tokens < self.tokens_limit:
            account.tokens -= self.tokens_limit - self.tokens
        return account

    @property
    def full(self) -> bool:
        return self.requests >= self.requests_limit and self.tokens >= self.tokens_limit


class _Reserved(msgspec.Struct, gc=False):
    """A reservation in a LocalRates. There is one a request, and it is part of no cycle."""

    rates: "LocalRates"
    who: str
    rate: Rate
    tokens: int
    requests_left: float
    tokens_left: float
    open: bool = True

    @property
    def lines(self) -> bytes:
        return header_lines(self.rate, self.requests_left, self.tokens_left)

    def settle(self, tokens: int) -> None:
        if self.open:
            self.open = False
            if tokens != self.tokens:
                self.rates.correct(self.who, self.rate, 0, tokens - self.tokens)

    def cancel(self) -> None:
        if self.open:
            self.open = False
            self.rates.correct(self.who, self.rate, -1, -self.tokens)


class LocalRates:
    """All callers of one router. A caller whose buckets are full is forgotten: a new one would be the same."""

    __slots__ = ("_accounts", "_clock", "_sweep_at")

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: seconds, never going back."""
        self._accounts: dict[str, _Account] = {}
        self._clock = clock
        self._sweep_at = clock() + SWEEP_SECONDS

    def __len__(self) -> int:
        return len(self._accounts)

    def reserve(self, who: str, rate: Rate, tokens: int, done: Done) -> None:
        if rate.requests_per_minute is None and rate.tokens_per_minute is None:
            done(UNLIMITED)
            return
        account = self._account(who, rate)
        if account.rate is not rate and account.rate != rate:
            account = self._accounts[who] = account.changed(rate)
        if account.requests < 1.0 or account.tokens < tokens:
            done(refusal(rate, tokens, account.requests, account.tokens))
            return
        account.requests -= 1.0
        account.tokens -= tokens
        done(_Reserved(self, who, account.rate, tokens, account.requests, account.tokens))

    def correct(self, who: str, rate: Rate, requests: int, tokens: int) -> None:
        """See Rates."""
        account = self._account(who, rate)
        if requests:
            account.requests = min(account.requests_limit, account.requests - requests)
        account.tokens = min(account.tokens_limit, account.tokens - tokens)

    def _account(self, who: str, rate: Rate) -> _Account:
        """As it is now; a new one where it was forgotten, and thus full."""
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep(now)
        account = self._accounts.get(who)
        if account is None:
            account = self._accounts[who] = _Account(rate, now)
        elif now > account.at:
            account.refill(now)
        return account

    def _sweep(self, now: float) -> None:
        self._sweep_at = now + SWEEP_SECONDS
        for account in self._accounts.values():
            if now > account.at:
                account.refill(now)
        self._accounts = {who: account for who, account in self._accounts.items() if not account.full}
