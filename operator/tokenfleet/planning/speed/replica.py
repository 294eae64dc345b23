"""A replica at requests of one length: the steps that it takes, the places that it has, and the prompts that a step takes in.

Made once for each question; what is asked of it thousands of times (`round_seconds`, `prefill`) is a handful of products.
"""

from dataclasses import dataclass, replace
from math import ceil

from tokenfleet.errors import TokenfleetError
from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.memory import Memory
from tokenfleet.planning.memory.choices import batch_of
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed.pace import Pace, pace_of
from tokenfleet.planning.speed.speed import Calibration


class UnknownSpeed(TokenfleetError):
    """Nothing tells how fast an accelerator is; the message says what would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Of it, what the time of requests depends on."""

    pace: Pace
    draft: Pace | None
    draft_tokens: int
    pipeline: int
    places: float
    """Sequences in a step at most."""
    budget: float
    """Prompts that a step can take in, besides decoding; below 1: their share."""
    chunks: int
    """Steps that one prompt needs."""
    rounds: float
    """Decode steps after the first token; each gives `tokens_per_round`."""
    tokens_per_round: float
    request_seconds: float

    def round_seconds(self, sequences: float, prompts: float = 0.0) -> float:
        """One decode step of so many sequences, with what of prompts is in it, and what the draft takes before."""
        share = sequences / self.pipeline if sequences > self.pipeline else min(sequences, 1.0)
        seconds = self.pace.seconds(share, prompts)
        if self.draft is not None:
            seconds += self.draft_tokens * self.draft.seconds(share)
            if prompts:
                seconds += self.draft.seconds(0.0, prompts)
        return seconds


def replica_of(
    model: ModelFacts,
    serving: Serving,
    calibration: Calibration,
    *,
    input_tokens: float,
    output_tokens: float,
    cached_share: float = 0.0,
    acceptance: float = 0.6,
    memory: Memory | None = None,
) -> Replica:
    """Raises UnknownSpeed where neither the class nor the calibration has the figures."""
    check_known(serving.accelerator, calibration)
    guesses = serving.draft_tokens
    lengths = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cached_share": cached_share}
    pace = pace_of(model, serving, calibration, **lengths, checked=guesses + 1)
    draft = None
    if guesses and serving.draft is not None:
        draft = pace_of(serving.draft, serving, _without_overhead(calibration), **lengths)
    per_round = _accepted(guesses, acceptance)
    batch = batch_of(model, serving)
    mean_length = input_tokens + output_tokens / 2
    places = float(batch.sequences)
    if memory is not None and memory.kv_tokens:
        places = max(min(places, memory.kv_tokens / mean_length), 1.0)
    budget = batch.tokens / pace.prompt_tokens
    return Replica(
        pace=pace,
        draft=draft,
        draft_tokens=guesses,
        pipeline=serving.pipeline,
        places=places,
        budget=budget if serving.chunked_prefill else max(budget, 1.0),
        chunks=ceil(1 / budget) if serving.chunked_prefill else 1,
        rounds=(output_tokens - 1) / per_round,
        tokens_per_round=per_round,
        request_seconds=calibration.request_seconds,
    )


def check_known(accelerator: Accelerator, calibration: Calibration | None) -> None:
    absolute = calibration is not None and calibration.flops is not None and calibration.memory_bandwidth is not None
    if not absolute and (not accelerator.flops or accelerator.bandwidth is None):
        raise UnknownSpeed(
            f"The speed of {accelerator.name} is not known: its FLOPs and bandwidth depend on the machine; measure a "
            "deployment with tokenfleet plan speed --calibrate NAME --out FILE, and give the file by --calibration"
        )


def _without_overhead(calibration: Calibration) -> Calibration:
    """A draft's passes are launched by the step that they belong to."""
    return replace(calibration, step_seconds=0.0, sequence_seconds=0.0)


def _accepted(guesses: int, acceptance: float) -> float:
    """Tokens of a round, in the mean: (1 - a^(g+1)) / (1 - a), Leviathan et al. 2023, Fast Inference from Transformers via
    Speculative Decoding, equation 1."""
    if acceptance == 1:
        return guesses + 1.0
    return (1 - acceptance ** (guesses + 1)) / (1 - acceptance)
