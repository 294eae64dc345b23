"""How long a step takes: the roofline of its kernels, one after another, for requests of one length.

Matrices take the longer of computing and of reading the weights; attention of a decode step the longer of computing and of
reading the KV cache; attention of a prompt computes. Then come the all-reduces, and what each step costs whatever is in it.
Kernels follow each other, so their times add up; within a kernel reading and computing overlap, so the longer one counts
(Williams et al. 2009, Roofline; Pope et al. 2022, section 2).
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed.shape import Shape, shape_of
from tokenfleet.planning.speed.speed import Bound, Calibration

_FAST_LINK: Final = 100e9
"""Bytes a second from which on a link is NVLink and not PCIe."""
_FAST_MESSAGE: Final = 10e-6
_SLOW_MESSAGE: Final = 30e-6
"""Seconds until a small all-reduce has begun and ended."""
_SLOWEST_LINK: Final = 16e9
"""Where a class does not tell: PCIe 3.0 with 16 lanes."""


class Parts(NamedTuple):
    """Of one step, in seconds; of a pair the longer one counts."""

    compute: float
    weights: float
    routed_compute: float
    routed_weights: float
    attention: float
    context: float
    prompt_attention: float
    """That reads little beside what it computes."""
    wire: float
    overhead: float

    @property
    def bound(self) -> Bound:
        spent: dict[Bound, float] = {
            "compute": self.prompt_attention, "bandwidth": 0.0, "overhead": self.overhead, "interconnect": self.wire
        }  # fmt: skip
        for computing, reading in zip(self[:6:2], self[1:6:2], strict=True):
            spent["compute" if computing >= reading else "bandwidth"] += max(computing, reading)
        return max(spent, key=lambda name: spent[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of each thing that a step has, for a shape under a calibration and requests of one length."""

    token: float
    sampled: float
    weights: float
    routed_token: float
    experts: float
    expert_share: float
    context: float
    """Reading one sequence's KV cache, half-way through its answer."""
    attention: float
    """Computing one sequence's attention there."""
    prompt_tokens: float
    """That are not in the prefix cache."""
    prompt_attention: float
    """Of a whole prompt."""
    wire: float
    wire_token: float
    step: float
    sequence: float
    checked: float = 1.0
    """Tokens that a step computes for a sequence that decodes: more than one where a draft is checked."""

    def parts(self, sequences: float, prompts: float = 0.0) -> Parts:
        """Of a step in which so many sequences decode, and so many prompts (or a share of one) are computed."""
        decoding = sequences * self.checked
        tokens = decoding + prompts * self.prompt_tokens
        # Each token is routed to k of E experts by itself, so that one is left out by all with (1 - k/E)^tokens.
        read = self.experts * (1 - (1 - self.expert_share) ** tokens) if self.expert_share else 0.0
        return Parts(
            tokens * self.token + (decoding + prompts) * self.sampled,
            self.weights,
            tokens * self.routed_token,
            read,
            decoding * self.attention,
            sequences * self.context,
            prompts * self.prompt_attention,
            self.wire + tokens * self.wire_token,
            self.step + (sequences + prompts) * self.sequence,
        )

    def seconds(self, sequences: float, prompts: float = 0.0) -> float:
        """The sum of the parts; written out, since a search asks for it most of its time."""
        decoding = sequences * self.checked
        tokens = decoding + prompts * self.prompt_tokens
        compute = tokens * self.token + (decoding + prompts) * self.sampled
        attention, context = decoding * self.attention, sequences * self.context
        total = self.wire + tokens * self.wire_token + self.step + (sequences + prompts) * self.sequence
        total += prompts * self.prompt_attention
        total += compute if compute > self.weights else self.weights
        total += attention if attention > context else context
        if self.expert_share:
            routed, read = tokens * self.routed_token, self.experts * (1 - (1 - self.expert_share) ** tokens)
            total += routed if routed > read else read
        return total


def pace_of(
    model: ModelFacts,
    serving: Serving,
    calibration: Calibration,
    *,
    input_tokens: float,
    output_tokens: float,
    cached_share: float = 0.0,
    checked: float = 1.0,
) -> Pace:
    """The accelerator's figures must be known, or the calibration's be absolute."""
    shape = shape_of(model, serving)
    return _pace(shape, serving, calibration, (input_tokens, output_tokens, cached_share, checked))


def _pace(shape: Shape, serving: Serving, calibration: Calibration, lengths: tuple[float, float, float, float]) -> Pace:
    input_tokens, output_tokens, cached_share, checked = lengths
    accelerator = serving.accelerator
    flops = (calibration.flops or accelerator.flops[shape.precision]) * calibration.compute
    bandwidth = (calibration.memory_bandwidth or accelerator.bandwidth or 0.0) * calibration.bandwidth
    link = accelerator.interconnect or _SLOWEST_LINK
    cached = min(input_tokens * cached_share, input_tokens - 1)
    context = input_tokens + output_tokens / 2
    return Pace(
        token=shape.token_flops / flops,
        sampled=shape.sampled_flops / flops,
        weights=shape.step_bytes / bandwidth,
        routed_token=shape.routed_flops / (flops * calibration.experts),
        experts=shape.expert_bytes / (bandwidth * calibration.experts),
        expert_share=shape.expert_share,
        context=shape.context_bytes(context) / bandwidth,
        attention=shape.context_flops(context) / flops,
        prompt_tokens=input_tokens - cached,
        prompt_attention=shape.prompt_flops(input_tokens - cached, cached) / flops,
        wire=shape.wire_messages * (_FAST_MESSAGE if link >= _FAST_LINK else _SLOW_MESSAGE),
        wire_token=shape.wire_bytes / link,
        step=calibration.step_seconds,
        sequence=calibration.sequence_seconds,
        checked=checked,
    )
