"""Models and accelerators that the tests of speed ask about."""

from dataclasses import replace

from tokenfleet.planning.accelerators import Accelerator, find_accelerator
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed import Calibration
from tokenfleet.planning.speed.published import public_model

DENSE = public_model(
    {
        "name": "Dense8B", "layers": 32, "hidden": 4096, "intermediate": 14336, "heads": 32, "kv_heads": 8, "head_dim": 128,
        "vocabulary": 128256,
    }
)  # fmt: skip
MIXED = public_model(
    {
        "name": "Mixture", "layers": 32, "hidden": 4096, "intermediate": 14336, "heads": 32, "kv_heads": 8, "head_dim": 128,
        "vocabulary": 32000, "experts": 8, "experts_per_token": 2,
    }
)  # fmt: skip
IDEAL = Calibration(
    compute=1.0, bandwidth=1.0, step_seconds=0.0, sequence_seconds=0.0, request_seconds=0.0, error=0.0, source="nothing is lost"
)
H100 = find_accelerator("nvidia-h100-80gb")
A100 = find_accelerator("nvidia-a100-80gb")
T4 = find_accelerator("nvidia-t4-16gb")
CPU = find_accelerator("cpu")


def on(accelerator: Accelerator, **settings: object) -> Serving:
    return Serving(accelerator=accelerator, **settings)  # type: ignore[arg-type]


def faster(accelerator: Accelerator, *, flops: float = 1.0, bandwidth: float = 1.0) -> Accelerator:
    return replace(
        accelerator,
        flops={name: value * flops for name, value in accelerator.flops.items()},
        bandwidth=(accelerator.bandwidth or 0.0) * bandwidth,
    )


def lighter(model: ModelFacts, share: float) -> ModelFacts:
    """The same, in files of a share of the bytes."""
    packed = tuple(replace(each, dtype="U8", bytes=round(each.bytes * share)) for each in model.weights)
    return replace(model, weights=packed, quantization="awq")
