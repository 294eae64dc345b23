"""From which traffic on own replicas cost less than an API that is paid by the token. Pure.

An API's cost rises in a straight line with the traffic; that of own replicas in steps, a whole replica each. Where r is the
rate at which the API costs what one replica does, n replicas win from the rate n·r on. So own ones win somewhere exactly if a
replica that is fully used is cheaper, r ≤ capacity; above the first such rate, a step up may let the API win again for a while,
until the steps are small against the whole.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

HOUR: Final = 3600.0
DAY: Final = 86_400.0
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPrices:
    """Of a million tokens."""

    input: float
    output: float

    def of_request(self, *, input_tokens: float, output_tokens: float) -> float:
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnReplicas:
    """As many as the traffic needs."""

    hourly: float
    """Of one."""
    capacity: float
    """Requests a second that one takes, within what is promised of its latency."""
    at_least: int = 1
    """That run whatever the traffic is."""

    def needed(self, rate: float) -> int:
        """For that many requests a second."""
        return max(self.at_least, math.ceil(rate / self.capacity * (1 - _ROUNDING)))

    def hourly_at(self, rate: float) -> float:
        return self.hourly * self.needed(rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """Rates are in requests a second; None: there is no such rate."""

    first: float | None
    """The least at which own replicas cost no more."""
    always: float | None
    """From which on they never cost more, whatever the step."""
    replicas: int | None
    """At `first`."""
    used: float
    """Share of one replica's capacity from which on it pays for itself; above 1 it never does."""
    api_request: float
    """What a request costs there."""
    own_request: float
    """And here at the least, with every replica fully used."""

    def tokens_per_day(self, tokens: float) -> float | None:
        """At `first`, where a request has so many."""
        return None if self.first is None else self.first * tokens * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Of the two curves."""

    rate: float
    own: float
    """In an hour."""
    api: float
    replicas: int


def break_even(own: OwnReplicas, api: ApiPrices, *, input_tokens: float, output_tokens: float) -> BreakEven:
    """Raises ValueError, with a sentence, for what cannot be: no capacity, no price, no tokens."""
    check(own, api, input_tokens=input_tokens, output_tokens=output_tokens)
    request = api.of_request(input_tokens=input_tokens, output_tokens=output_tokens)
    rate = own.hourly / (HOUR * request) if request else math.inf
    used = rate / own.capacity
    wins = used <= 1 + _ROUNDING
    return BreakEven(
        first=min(own.at_least * rate, own.at_least * own.capacity) if wins else None,
        always=max(own.at_least, math.ceil(used / (1 - used) - _ROUNDING)) * rate if used < 1 - _ROUNDING else None,
        replicas=own.at_least if wins else None,
        used=used,
        api_request=request,
        own_request=own.hourly / (HOUR * own.capacity),
    )


def check(own: OwnReplicas, api: ApiPrices, *, input_tokens: float, output_tokens: float) -> None:
    """Raises ValueError."""
    if not own.capacity > 0 or not math.isfinite(own.capacity):
        raise ValueError("a replica that takes no requests costs more than any API: its rate has to be above 0")
    if not own.hourly > 0 or own.at_least < 1:
        raise ValueError("a replica has a price above 0, and there is at least one")
    if min(api.input, api.output) < 0 or api.input + api.output == 0:
        raise ValueError("an API's prices are 0 or more, and one of them is above 0")
    if min(input_tokens, output_tokens) < 0 or input_tokens + output_tokens == 0:
        raise ValueError("a request has tokens: 0 or more in, 0 or more out, and not 0 of both")


def curve(
    own: OwnReplicas, api: ApiPrices, *, input_tokens: float, output_tokens: float, until: float, steps: int = 400
) -> Sequence[Point]:
    """Both costs from no traffic up to that rate, with both ends of each step of own replicas."""
    request = api.of_request(input_tokens=input_tokens, output_tokens=output_tokens)
    rates = {until * index / steps for index in range(steps + 1)}
    edges = [own.capacity * count for count in range(1, math.ceil(until / own.capacity) + 1)][: steps // 2]
    rates.update(rate for edge in edges for rate in (edge, edge * (1 + 1e-6)) if rate <= until)
    return [
        Point(rate=rate, own=own.hourly_at(rate), api=request * rate * HOUR, replicas=own.needed(rate))
        for rate in sorted(rates)
    ]
