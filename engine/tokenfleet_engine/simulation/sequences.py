"""One text in the making: what the scheduler needs to know of it, and the token that comes next.

A request has as many sequences as it asks for choices. Times are those of the engine's clock, which alone writes them.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from tokenfleet_engine.simulation.blocks import Block
from tokenfleet_engine.simulation.text import END, Writer


class Finish(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


@dataclass(slots=True)
class Times:
    arrived: float = 0.0
    scheduled: float | None = None
    first: float = 0.0
    """Of its first token."""
    last: float = 0.0
    """Of its newest token."""


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    prompt_tokens: int
    limit: int
    """Tokens to generate at most."""
    block_size: int
    hashes: list[int]
    """Of the full blocks; grows with the text."""
    writer: Writer
    least: int = 0
    """Tokens to generate before it may end by itself."""
    generated: int = 0
    computed: int = 0
    """Tokens whose KV is in its blocks."""
    cached: int = 0
    """Of the prompt's tokens, those that were found in the prefix cache."""
    blocks: list[Block] = field(default_factory=list)
    preemptions: int = 0
    finish: Finish | None = None
    times: Times = field(default_factory=Times)

    @property
    def length(self) -> int:
        return self.prompt_tokens + self.generated

    def advance(self) -> bytes:
        """One more token: its bytes, or END. Sets `finish` where it is the last."""
        self.generated += 1
        if self.generated > self.least and self.writer.ends():
            self.finish = Finish.STOP
            return END
        piece = self.writer.write()
        if self.length % self.block_size == 0:
            self.hashes.append(self.writer.state)
        if self.generated >= self.limit:
            self.finish = Finish.LENGTH
        return piece
