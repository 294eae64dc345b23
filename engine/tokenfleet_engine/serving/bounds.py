"""How much an engine takes before it refuses: three bounds, from the environment that `serve` gives to vLLM.

Where nothing is set, one bound holds: in flight, four times what the engine runs at once (--max-num-seqs). vLLM itself would
take requests without end. Then three times as many wait as run, and a newcomer waits for about three whole generations of
others, which is longer than clients do; fewer would refuse what a router's second try, or a moment, could still bring through.
The other two are off, since what is too long depends on who waits.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from tokenfleet import contract

GENERATIONS: Final = 4
Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """inf: no bound."""

    in_flight: float = math.inf
    waiting: float = math.inf
    queue_seconds: float = math.inf


def read_bounds(environment: Mapping[str, str], *, max_sequences: int | None) -> Bounds:
    """Raises ValueError with the variable's name. `max_sequences`: what the engine runs at once, where it says so."""
    suggested = math.inf if max_sequences is None else GENERATIONS * max_sequences
    bounds = Bounds(
        waiting=_bound(environment, contract.ENV_ENGINE_MAX_WAITING, int, default=math.inf),
        queue_seconds=_bound(environment, contract.ENV_ENGINE_MAX_QUEUE_SECONDS, float, default=math.inf),
    )
    return replace(bounds, in_flight=_bound(environment, contract.ENV_ENGINE_MAX_IN_FLIGHT, int, default=suggested))


def _bound(environment: Mapping[str, str], name: str, read: Callable[[str], Number], *, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = read(text)
    except ValueError:
        value = read("-1")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {text!r}: give a number from 0 (no bound), or leave it out.")
    return value or math.inf
