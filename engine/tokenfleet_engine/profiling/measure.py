"""Takes an engine through a plan, one step at a time, and keeps what each step took.

Prefill: one prompt alone in the engine, from its arrival to its first token, once for warming up and then as often as asked.
Decode: a batch is brought to its context first; the steps that fill it are kept as samples and counted for nothing else. All
time limits are looked at between steps, so a point ends with what it has by then. Knows no vLLM.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from tokenfleet_engine.profiling.devices import Memory
from tokenfleet_engine.profiling.plan import (
    WARM_STEPS,
    DecodePoint,
    Limits,
    Plan,
    Skipped,
    answer_tokens,
    describe,
    filling_steps,
)
from tokenfleet_engine.profiling.steps import DECODE, Step


class Engine(Protocol):
    """The verbs that a measurement needs."""

    @property
    def limits(self) -> Limits: ...

    def add(self, *, prompt_tokens: int, new_tokens: int) -> None:
        """One sequence with a prompt that no other shares."""

    def step(self) -> Step:
        """One step, to its very end."""

    def clear(self) -> None:
        """Take all sequences out."""

    def blocks_in_use(self) -> int: ...
    def memory(self) -> Memory: ...
    def reset_peak(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillResult:
    prompt_tokens: int
    seconds: tuple[float, ...]
    """To the first token, of each repeat."""
    steps: int
    """That one prompt takes: more than one where it is cut into chunks."""
    blocks: int
    """Of KV cache that it holds."""
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeResult:
    point: DecodePoint
    mean_context_tokens: float
    """Of a sequence: it grows with each step."""
    seconds: tuple[float, ...]
    """Of each step."""
    output_tokens: int
    """Of all these steps."""
    blocks: int
    memory: Memory


@dataclass(slots=True)
class Measured:
    prefill: list[PrefillResult] = field(default_factory=list)
    decode: list[DecodeResult] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


class _LeftOut(Exception):
    """The point was not measured even once, for this reason."""


@dataclass(slots=True, kw_only=True)
class Measurement:
    """One pass through a plan."""

    engine: Engine
    plan: Plan
    clock: Callable[[], float]
    say: Callable[[str], None]
    all_seconds: float
    point_seconds: float
    measured: Measured = field(default_factory=Measured)
    _end: float = 0.0
    _point_end: float = 0.0

    def run(self) -> Measured:
        self._end = self.clock() + self.all_seconds
        self.measured.skipped.extend(self.plan.skipped)
        points = len(self.plan.prompts) + len(self.plan.decode)
        number = 0
        for tokens in self.plan.prompts:
            number += 1
            self._point(f"prefill of {tokens} tokens", f"{number}/{points}", partial(self._prefill, tokens))
        for point in self.plan.decode:
            number += 1
            self._point(describe(point), f"{number}/{points}", partial(self._decode, point))
        return self.measured

    def _point(self, name: str, number: str, measure: Callable[[], str]) -> None:
        self._point_end = self.clock() + self.point_seconds
        self.engine.reset_peak()
        try:
            self.say(f"[{number}] {name}: {measure()}")
        except _LeftOut as reason:
            self.say(f"[{number}] {name}: left out, {reason}")
            self.measured.skipped.append(Skipped(name, str(reason)))
        finally:
            self.engine.clear()

    def _prefill(self, tokens: int) -> str:
        seconds: list[float] = []
        steps: list[Step] = []
        blocks = 0
        for _ in range(1 + self.plan.repeat):
            if len(seconds) > 1 and self._time_over():
                break
            self.engine.add(prompt_tokens=tokens, new_tokens=2)
            steps = self._steps_to_first_token(bounded=len(seconds) < 2)
            seconds.append(sum(step.seconds for step in steps))
            blocks = self.engine.blocks_in_use()
            if len(seconds) > 1:
                self.measured.steps.extend(steps)
            self.engine.clear()
        result = PrefillResult(
            prompt_tokens=tokens, seconds=tuple(seconds[1:]), steps=len(steps), blocks=blocks, memory=self.engine.memory()
        )
        self.measured.prefill.append(result)
        return f"{1000 * min(result.seconds):.1f} ms at best of {len(result.seconds)}"

    def _steps_to_first_token(self, *, bounded: bool) -> list[Step]:
        """A prompt that is begun after one has counted is finished: what there is must not be lost."""
        steps: list[Step] = []
        while not steps or not steps[-1].output_tokens:
            if bounded:
                self._check_time()
            steps.append(self.engine.step())
        return steps

    def _decode(self, point: DecodePoint) -> str:
        filling = filling_steps(point, step_tokens=self.engine.limits.step_tokens)
        for _ in range(point.sequences):
            self.engine.add(
                prompt_tokens=point.context_tokens, new_tokens=answer_tokens(self.plan.decode_steps, filling=filling)
            )
        self._fill(point)
        for _ in range(WARM_STEPS - 1):
            self._check_time()
            self.engine.step()
        counted: list[Step] = []
        while len(counted) < self.plan.decode_steps and not (counted and self._time_over()):
            step = self.engine.step()
            if step.scheduled.sequences < point.sequences:
                break  # one has ended: an engine that speculates is ahead of its steps
            counted.append(step)
        if not counted:
            raise _LeftOut("its sequences ended too early: raise --max-model-len, or lower --decode-steps")
        self._keep(point, counted)
        return f"{1000 * min(step.seconds for step in counted):.1f} ms a step at best of {len(counted)}"

    def _fill(self, point: DecodePoint) -> None:
        """Step until all of the batch decodes. The first such step is warm-up; those before it are samples of prefill."""
        while True:
            self._check_time()
            step = self.engine.step()
            if step.scheduled.kind == DECODE and step.scheduled.sequences == point.sequences:
                return
            self.measured.steps.append(step)

    def _keep(self, point: DecodePoint, counted: list[Step]) -> None:
        self.measured.steps.extend(counted)
        context = sum(step.scheduled.context_tokens for step in counted) / (len(counted) * point.sequences)
        result = DecodeResult(
            point=point,
            mean_context_tokens=context,
            seconds=tuple(step.seconds for step in counted),
            output_tokens=sum(step.output_tokens for step in counted),
            blocks=self.engine.blocks_in_use(),
            memory=self.engine.memory(),
        )
        self.measured.decode.append(result)

    def _check_time(self) -> None:
        if self.clock() >= self._end:
            raise _LeftOut(f"the run's time was over (--max-seconds {self.all_seconds:g})")
        if self.clock() >= self._point_end:
            raise _LeftOut(f"the point's time was over (--point-seconds {self.point_seconds:g})")

    def _time_over(self) -> bool:
        return self.clock() >= min(self._end, self._point_end)
