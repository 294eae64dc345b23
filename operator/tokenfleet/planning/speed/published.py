"""Published measurements: what they were made with, as points that a calibration is fitted to or held against.

They come with the package as published.toml, with their sources. Nothing reads them while it plans: what they come to stands
in `defaults`, and a test fits them anew.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, Final

from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.memory import estimate_memory
from tokenfleet.planning.model import Attention, ModelFacts, Weights
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed.defaults import GENERATIONS, generation_of
from tokenfleet.planning.speed.fitting import Measured, fit_all, predictions, with_errors
from tokenfleet.planning.speed.points import Point, errors_of
from tokenfleet.planning.speed.speed import Calibration

Json = Mapping[str, Any]

START: Final = Calibration(
    compute=0.5,
    bandwidth=0.8,
    experts=0.5,
    step_seconds=0.002,
    sequence_seconds=20e-6,
    request_seconds=0.010,
    error=0.0,
    source="published measurements",
)
"""What the fit begins with, and where it stays as far as the points say nothing: guesses of the right size."""
_PULL: Final = 0.2
"""Towards it. More than for measurements of one's own, since these are of many hands and do not agree with each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One measurement, and where it stands."""

    model_name: str
    measured: Measured
    """Of this one point."""
    fitted: bool
    title: str
    url: str

    @property
    def point(self) -> Point:
        return self.measured.points[0]


def published() -> tuple[Published, ...]:
    """In the order of the file."""
    document = tomllib.loads(files(__package__).joinpath("published.toml").read_text(encoding="utf-8"))
    models = {key: public_model(fields) for key, fields in document["models"].items()}
    return tuple(_published(fields, models[fields["model"]], document) for fields in document["points"])


def _published(fields: Json, model: ModelFacts, document: Json) -> Published:
    accelerator = find_accelerator(fields["accelerator"])
    if "interconnect_gb" in fields:
        accelerator = replace(accelerator, interconnect=fields["interconnect_gb"] * 1e9)
    serving = Serving(accelerator=accelerator, tensor=fields.get("tensor", 1))
    source = document["sources"][fields["source"]]
    measured = Measured(points=(_point(fields),), model=model, serving=serving, memory=estimate_memory(model, serving))
    return Published(
        model_name=document["models"][fields["model"]]["name"],
        measured=measured,
        fitted=fields.get("fitted", False),
        title=source["title"],
        url=source["url"],
    )


def _point(fields: Json) -> Point:
    tokens = fields.get("output_tokens_per_second")
    if tokens is None and "total_tokens_per_second" in fields:
        tokens = fields["total_tokens_per_second"] * fields["output"] / (fields["input"] + fields["output"])
    return Point(
        input_tokens=fields["input"],
        output_tokens=fields["output"],
        concurrency=fields["concurrency"],
        cached_share=fields.get("cached", 0.0),
        ttft=fields["ttft_ms"] / 1000 if "ttft_ms" in fields else None,
        itl=fields["itl_ms"] / 1000 if "itl_ms" in fields else None,
        output_tokens_per_second=tokens,
    )


def public_model(fields: Json) -> ModelFacts:
    """A decoder with gated feed-forward parts, in bfloat16: what the figures of its config.json make."""
    layers, hidden, head_dim = fields["layers"], fields["hidden"], fields["head_dim"]
    heads, kv_heads, experts = fields["heads"], fields["kv_heads"], fields.get("experts", 0)
    projections = layers * hidden * head_dim * (2 * heads + 2 * kv_heads)
    feed_forward = layers * 3 * hidden * fields["intermediate"]
    dense = projections + (0 if experts else feed_forward)
    routed, share = feed_forward * experts, fields.get("experts_per_token", 0)
    head = hidden * fields["vocabulary"]
    weights = [_weights("embedding", head), _weights("layers", dense)]
    if not fields.get("tied", False):
        weights.append(_weights("head", head))
    if experts:
        weights.append(_weights("experts", routed, bits=fields.get("expert_bits", 16)))
    return ModelFacts(
        architecture=fields["name"],
        layers=layers,
        hidden_size=hidden,
        vocabulary=fields["vocabulary"],
        dtype="bfloat16",
        attention=_attention(fields),
        weights=tuple(weights),
        context_tokens=fields.get("context", 40960),
        intermediate_size=fields["intermediate"],
        experts=experts,
        experts_per_token=share,
        parameters=dense + routed + head * (1 if fields.get("tied", False) else 2),
        active_parameters=dense + feed_forward * share + head,
    )


def _weights(part: Any, elements: int, *, bits: float = 16) -> Weights:
    return Weights(part=part, dtype="BF16" if bits == 16 else "U8", elements=elements, bytes=round(elements * bits / 8))


def _attention(fields: Json) -> tuple[Attention, ...]:
    layers, window = fields["layers"], fields.get("sliding")
    alike = {"heads": fields["heads"], "kv_heads": fields["kv_heads"], "head_dim": fields["head_dim"]}
    if window is None:
        return (Attention(layers=layers, keeping="full", **alike),)
    return (
        Attention(layers=layers - layers // 2, keeping="sliding", window=window, **alike),
        Attention(layers=layers // 2, keeping="full", **alike),
    )


def fit_published(points: Sequence[Published]) -> tuple[Calibration, dict[str, float]]:
    """What `defaults` holds: one calibration of all points that are fitted, and for each generation its share of the FLOPs.

    The errors are those of the points held out, each by its own generation's.
    """
    fitted = [each for each in points if each.fitted]
    whole = fit_all([each.measured for each in fitted], START, pull=_PULL)
    shares = {}
    for name in GENERATIONS:
        own = [each.measured for each in fitted if generation_of(each.measured.serving.accelerator) == name]
        shares[name] = fit_all(own, whole, only=["compute"], pull=_PULL).compute
    held_out = [each.measured for each in points if not each.fitted]
    pairs = []
    for each in held_out:
        generation = generation_of(each.serving.accelerator)
        own_share = whole if generation is None else replace(whole, compute=shares[generation])
        pairs += predictions([each], own_share)
    return with_errors(whole, errors_of(pairs)), shares
