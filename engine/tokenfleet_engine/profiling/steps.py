"""One step of the engine: what its scheduler put into it, and how long it took.

Read from vLLM's own schedule (`SchedulerOutput`), not from what we asked for: a long prompt is cut into chunks, and a batch
fills up over several steps. The raw steps are what a timing model is fitted to. Must not import vLLM.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

PREFILL: Final = "prefill"
DECODE: Final = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """What one step works on. A step with any token of a prompt in it is prefill, whatever else it decodes."""

    sequences: int
    decodes: int
    """Those of them that are past their prompt."""
    prefill_tokens: int
    context_tokens: int
    """Of all its sequences together: what stood in the KV cache before the step, and is read by it."""
    attended_tokens: int
    """Pairs of a prompt's token in this step and one up to it: what attention costs in prefill."""

    @property
    def kind(self) -> Literal["prefill", "decode"]:
        return PREFILL if self.prefill_tokens else DECODE


@dataclass(frozen=True, slots=True)
class Step:
    scheduled: Scheduled
    seconds: float
    output_tokens: int
    """More than one for each sequence where the engine speculates."""

    def as_json(self) -> dict[str, Any]:
        figures = {**asdict(self.scheduled), "output_tokens": self.output_tokens, "seconds": self.seconds}
        return {"kind": self.scheduled.kind, **figures}


def read_schedule(output: Any, *, prompt_tokens: Mapping[str, int]) -> Scheduled:
    """Of vLLM's SchedulerOutput. `prompt_tokens` has the length of each request's prompt."""
    before = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
    cached = output.scheduled_cached_reqs
    before.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
    scheduled: Mapping[str, int] = output.num_scheduled_tokens
    prefill = {name: min(count, max(0, prompt_tokens[name] - before[name])) for name, count in scheduled.items()}
    return Scheduled(
        sequences=len(scheduled),
        decodes=sum(tokens == 0 for tokens in prefill.values()),
        prefill_tokens=sum(prefill.values()),
        context_tokens=sum(before[name] for name in scheduled),
        attended_tokens=sum(tokens * before[name] + tokens * (tokens + 1) // 2 for name, tokens in prefill.items()),
    )
