"""What is asked of a fleet: the load, what its users are promised, and what may be bought. Refused where it cannot be meant.

`safety` is how much of a calibration's error is kept as a margin: with 1, the promises hold although the engine is slower than
predicted by all of its mean error, and its capacity is lower by as much; with 0 the prediction is taken at its word.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tokenfleet.errors import TokenfleetError
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.speed.speed import Calibration

Precision = Literal["files", "fp8"]
"""files: as the model's files are; fp8: made of files that are not quantized, while they are loaded."""
KvPrecision = Literal["auto", "fp8"]

BATCHES: Final = (8, 16, 32, 64, 128, 256, 512)
"""Values of maxNumSeqs that are tried."""


class InvalidAsk(TokenfleetError):
    """What is asked cannot be meant; the message says which part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Seconds, tokens, and requests a second."""

    rate: float
    """Of all requests that come."""
    input_tokens: int
    output_tokens: int
    ttft: float | None = None
    itl: float | None = None
    e2e: float | None = None
    """From a request to its last token."""
    percentile: float = 0.95
    """At which ttft, itl and e2e are promised."""
    max_model_len: int | None = None
    """None: just what one request needs."""
    accelerators: tuple[str, ...] | None = None
    """None: all that have figures and a price."""
    spot: bool = False
    currency: str = "USD"
    max_gpus: int | None = None
    min_replicas: int = 1
    headroom: float = 0.0
    """Share of the rate that there is to be room for beyond it."""
    precisions: tuple[Precision, ...] = ("files", "fp8")
    kv_precisions: tuple[KvPrecision, ...] = ("auto", "fp8")
    batches: tuple[int, ...] = BATCHES
    safety: float = 1.0
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    """By accelerator class; the others use the default one."""

    def __post_init__(self) -> None:
        for said, wrong in self._mistakes():
            if wrong:
                raise InvalidAsk(said)

    def _mistakes(self) -> tuple[tuple[str, bool], ...]:
        promises = {"ttft": self.ttft, "itl": self.itl, "e2e": self.e2e}
        bad = [name for name, value in promises.items() if value is not None and not _positive(value)]
        return (
            (f"The rate is {self.rate} requests a second: it has to be above 0.", not _positive(self.rate)),
            (f"A prompt of {self.input_tokens} tokens: there is at least one.", self.input_tokens < 1),
            (f"An answer of {self.output_tokens} tokens: there is at least one.", self.output_tokens < 1),
            (f"{' and '.join(bad)} cannot be promised to be 0 or less.", bool(bad)),
            (f"The percentile {self.percentile:g} is not between 0 and 1.", not 0 < self.percentile < 1),
            (f"The headroom {self.headroom:g} is below 0.", not 0 <= self.headroom < math.inf),
            (f"The safety {self.safety:g} is below 0.", not 0 <= self.safety < math.inf),
            (f"At least {self.min_replicas} replicas: name 1 or more.", self.min_replicas < 1),
            (f"At most {self.max_gpus} GPUs: name 1 or more.", self.max_gpus is not None and self.max_gpus < 1),
            (
                f"maxModelLen {self.max_model_len} is less than a request's {self.request_tokens} tokens, "
                f"{self.input_tokens} of the prompt and {self.output_tokens} of the answer.",
                self.max_model_len is not None and self.max_model_len < self.request_tokens,
            ),
            (
                "Nothing is left to choose from: name a precision, a KV cache type and a batch.",
                not (self.precisions and self.kv_precisions and self.batches and min(self.batches) > 0),
            ),
        )

    @property
    def request_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def model_len(self) -> int:
        """maxModelLen of every candidate."""
        return self.max_model_len or self.request_tokens

    @property
    def hourly_tokens(self) -> float:
        return self.rate * self.request_tokens * 3600

    def check(self, model: ModelFacts) -> None:
        """Raises InvalidAsk where the model was not made for so long a sequence."""
        if model.context_tokens is not None and self.model_len > model.context_tokens:
            raise InvalidAsk(
                f"A sequence of {self.model_len} tokens is asked for, and {model.architecture} was made for "
                f"{model.context_tokens} at most: ask for shorter ones, or choose another model."
            )


def _positive(value: float) -> bool:
    return 0 < value < math.inf
