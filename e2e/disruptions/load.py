"""What the clients do while something is done to the fleet: four kinds of requests, and probes that feel for a gap.

Two kinds write long answers to short prompts, so a disruption finds them in the middle; two read long prompts for short
answers, so it finds them before their first byte, where another replica may begin them anew. Of each there is one that streams
and one that does not. The probes ask for one token, over and over: the longest of their waits is how long nobody was there to
answer.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from e2e import streams
from e2e.streams import Load, Tally
from tokenfleet import contract

ENDED: Final = "continuation off"
"""The mode whose streams may not go on with another replica."""
_LONG: Final = {"tokens": 160, "padding": 0}
_EARLY: Final = {"tokens": 10, "padding": 500, "pause": 0.5}
_MODES: Final[Mapping[str, Mapping[str, object]]] = {
    "stream, mid-stream": {"stream": True, **_LONG},
    "stream, retryable": {"stream": True, **_EARLY},
    "plain, mid-stream": {"stream": False, **_LONG},
    "plain, retryable": {"stream": False, **_EARLY},
    f"stream, {ENDED}": {"stream": True, **_LONG, "headers": {contract.HEADER_CONTINUE: "off"}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """All of them, with the texts that they are to get."""

    modes: Mapping[str, Load]
    probes: Load

    @classmethod
    async def learn(cls, *, url: str, model: str, streams_each: int) -> "Loads":
        """Asks each client's question once, while nothing disturbs."""
        plain = Load(url=url, model=model, streams=streams_each, tokens=1)
        modes = {mode: await streams.learn(replace(plain, **fields)) for mode, fields in _MODES.items()}  # type: ignore[arg-type]
        return cls(modes=modes, probes=replace(plain, streams=4, pause=0.05))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Mapping[str, Tally], Tally]]:
        """All at once: the tallies of the modes, and the probes'."""
        async with AsyncExitStack() as stack:
            probes = await stack.enter_async_context(streams.running(self.probes))
            tallies = {mode: await stack.enter_async_context(streams.running(load)) for mode, load in self.modes.items()}
            yield tallies, probes
