"""Continuous batching at the level of iterations, as vLLM does it: who computes how many tokens in the next step.

Running sequences come first, in the order in which they came; then waiting ones, first come first served, as long as there is a
place, a part of the step's token budget, and free KV blocks. Long prompts are read in chunks. When a running sequence finds
no block for its next token, the youngest one gives its blocks back and starts over later, with what it has generated. Must
know neither clock nor text: `schedule` plans a step, `complete` says who got a token by it, `finish` lets a sequence go.
"""

from collections import deque
from dataclasses import dataclass, field

from tokenfleet_engine.simulation.blocks import BlockPool
from tokenfleet_engine.simulation.sequences import Sequence
from tokenfleet_engine.simulation.timing import Work


@dataclass(frozen=True, slots=True)
class Limits:
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    block_size: int = 16
    blocks: int = 8192
    prefix_caching: bool = True
    chunked_prefill: bool = True


@dataclass(slots=True)
class Step:
    """The tokens of each sequence that are computed in one go."""

    parts: list[tuple[Sequence, int]] = field(default_factory=list)
    work: Work = field(default_factory=Work)
    preempted: list[Sequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)

    def add(self, sequence: Sequence, count: int) -> None:
        self.parts.append((sequence, count))
        if sequence.computed + count == sequence.length and count == 1:
            self.work.decodes += 1
            self.work.context_tokens += sequence.length
        else:
            self.work.prompt_tokens += count
            self.work.attended_tokens += count * (sequence.computed + count / 2)


class Scheduler:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pool = BlockPool(limits.blocks, caching=limits.prefix_caching)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.queried_tokens = 0
        self.hit_tokens = 0
        """Asked of the prefix cache, and found in it."""

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def schedule(self) -> Step:
        step = Step()
        budget = self._continue_running(step, self.limits.max_num_batched_tokens)
        if not step.preempted:
            self._admit_waiting(step, budget)
        return step

    def complete(self, step: Step) -> list[Sequence]:
        """Who has a new token to generate now. Those that left in the meantime are passed over."""
        ready = []
        for sequence, count in step.parts:
            if sequence.finish is None:
                sequence.computed += count
                if sequence.computed == sequence.length:
                    ready.append(sequence)
        return ready

    def finish(self, sequence: Sequence) -> None:
        """Whether it ended or its client left: its place and its blocks are free at once."""
        try:
            self.running.remove(sequence)
        except ValueError:
            self.waiting.remove(sequence)
        self._free(sequence)

    def _continue_running(self, step: Step, budget: int) -> int:
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            count = min(sequence.length - sequence.computed, budget)
            while not self._extend(sequence, count):
                victim = self.running.pop()
                self._preempt(victim, step)
                if victim is sequence:
                    return 0
            step.add(sequence, count)
            budget -= count
            index += 1
        return budget

    def _admit_waiting(self, step: Step, budget: int) -> None:
        while self.waiting and budget > 0 and len(self.running) < self.limits.max_num_seqs:
            sequence = self.waiting[0]
            if not (count := self._begin(sequence, budget)):
                return
            self.running.append(self.waiting.popleft())
            step.admitted.append(sequence)
            step.add(sequence, count)
            budget -= count

    def _begin(self, sequence: Sequence, budget: int) -> int:
        """How many tokens it computes in this step, its blocks taken; 0 where it has to wait."""
        size = self.limits.block_size
        known = self.pool.find(sequence.hashes, most=(sequence.length - 1) // size)  # one token is left to compute
        rest = sequence.length - len(known) * size
        if rest > budget and not self.limits.chunked_prefill:
            return 0
        count = min(rest, budget)
        needed = -(-(len(known) * size + count) // size) - len(known)
        if needed + self.pool.idle(known) > self.pool.free:
            return 0
        self.pool.share(known)
        sequence.blocks = known
        sequence.computed = len(known) * size
        if self.limits.prefix_caching:
            self.queried_tokens += sequence.length
            self.hit_tokens += sequence.computed
        if not sequence.preemptions:
            sequence.cached = sequence.computed
        self._extend(sequence, count)
        return count

    def _extend(self, sequence: Sequence, count: int) -> bool:
        """Blocks for so many more tokens, all or nothing."""
        size, end = self.limits.block_size, sequence.computed + count
        needed = -(-end // size) - len(sequence.blocks)
        if needed > self.pool.free:
            return False
        if needed > 0:
            sequence.blocks += self.pool.take(needed)
        for index in range(sequence.computed // size, end // size):
            self.pool.fill(sequence.blocks[index], sequence.hashes[index])
        return True

    def _preempt(self, sequence: Sequence, step: Step) -> None:
        self._free(sequence)
        sequence.preemptions += 1
        self.waiting.appendleft(sequence)
        step.preempted.append(sequence)

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
