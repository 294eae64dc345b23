"""The calibration that holds where nobody measured: fitted to published measurements of public models (docs/speed.md).

The numbers are those of `published.fit_published`; a test fits them anew. How much of its FLOPs a device attains differs most
from one generation to the next, so that alone is fitted to each generation that there are measurements of.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.speed.replica import check_known
from tokenfleet.planning.speed.speed import Calibration

PUBLISHED: Final = Calibration(
    compute=0.365,
    bandwidth=0.86,
    experts=0.901,
    step_seconds=0.00269,
    sequence_seconds=24.7e-6,
    request_seconds=0.00721,
    error=0.214,
    ttft_error=0.425,
    itl_error=0.149,
    throughput_error=0.0674,
    source="published measurements of vLLM (docs/speed.md)",
)
GENERATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Ampere": ("nvidia-a100-",),
    "Hopper": ("nvidia-h100-", "nvidia-h200-"),
}
"""With what the names of their classes begin."""
COMPUTE: Final[Mapping[str, float]] = {"Ampere": 0.48, "Hopper": 0.255}
"""In the place of PUBLISHED's."""


def default_calibration(accelerator: Accelerator) -> Calibration:
    """Of any GPU. Raises UnknownSpeed for a class that tells neither FLOPs nor bandwidth."""
    check_known(accelerator, None)
    generation = generation_of(accelerator)
    return PUBLISHED if generation is None else _OF[generation]


def generation_of(accelerator: Accelerator) -> str | None:
    """None: one that there are no measurements of."""
    return next((name for name, beginnings in GENERATIONS.items() if accelerator.name.startswith(beginnings)), None)


_OF: Final = {name: replace(PUBLISHED, compute=share) for name, share in COMPUTE.items()}
