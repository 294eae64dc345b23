"""An engine for the measurement: a scheduler that cuts prompts into chunks, and a clock that moves when it steps."""

from dataclasses import dataclass, field

from tokenfleet_engine.profiling.devices import Memory
from tokenfleet_engine.profiling.plan import KVCache, Limits
from tokenfleet_engine.profiling.steps import Scheduled, Step

CACHE = KVCache(blocks=101, block_bytes=1600, group_tokens=(16,))
LIMITS = Limits(sequence_tokens=1000, sequences=8, step_tokens=256, cache=CACHE)


@dataclass
class Sequence:
    prompt_tokens: int
    new_tokens: int
    computed: int = 0
    said: int = 0


@dataclass
class SteppedEngine:
    """A step takes `base` seconds and a millisecond for each token of a prompt."""

    limits: Limits = LIMITS
    base: float = 0.01
    now: float = 0.0
    said_per_step: int = 1
    sequences: list[Sequence] = field(default_factory=list)
    resets: int = 0

    def clock(self) -> float:
        return self.now

    def add(self, *, prompt_tokens: int, new_tokens: int) -> None:
        self.sequences.append(Sequence(prompt_tokens, new_tokens))

    def step(self) -> Step:
        budget, before, prefill, said, decodes = self.limits.step_tokens, 0, 0, 0, 0
        worked = 0
        for sequence in list(self.sequences):
            if not budget:
                break
            worked += 1
            before += sequence.computed
            left = sequence.prompt_tokens - sequence.computed
            taken = min(budget, left) if left > 0 else self.said_per_step
            prefill += taken if left > 0 else 0
            decodes += left <= 0
            budget -= taken
            sequence.computed += taken
            if sequence.computed >= sequence.prompt_tokens:
                sequence.said += 1 if left > 0 else taken
                said += 1 if left > 0 else taken
            if sequence.said >= sequence.new_tokens:
                self.sequences.remove(sequence)
        seconds = self.base + prefill / 1000
        self.now += seconds
        scheduled = Scheduled(
            sequences=worked, decodes=decodes, prefill_tokens=prefill, context_tokens=before, attended_tokens=0
        )
        return Step(scheduled, seconds, said)

    def clear(self) -> None:
        self.sequences.clear()

    def blocks_in_use(self) -> int:
        return sum(self.limits.cache.blocks_for(sequence.computed) for sequence in self.sequences)

    def memory(self) -> Memory:
        return Memory(used=1000 + self.blocks_in_use(), peak=2000)

    def reset_peak(self) -> None:
        self.resets += 1
