"""Why a class is not the best, in words: phrases that go on after its name and a colon. Pure."""

from typing import Final

from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.optimize.ask import Ask
from tokenfleet.planning.optimize.candidate import Miss
from tokenfleet.planning.optimize.promises import misses
from tokenfleet.planning.serving import Serving

_GIB: Final = 1 << 30
_SIGNS: Final = {"USD": "$", "EUR": "€", "GBP": "£"}


def money(amount: float, currency: str) -> str:
    """With as many places as tell small amounts apart."""
    text = f"{amount:,.2f}" if amount >= 0.1 or amount == 0 else f"{amount:.2g}"
    return f"{_SIGNS[currency]}{text}" if currency in _SIGNS else f"{text} {currency}"


def not_considered(accelerator: Accelerator, ask: Ask) -> str | None:
    """Of a class that cannot be counted with, or compared with the others."""
    if accelerator.simulated:
        return "it runs no model"
    if not accelerator.plannable:
        return "its memory, bandwidth or FLOPs are not known; add them to the accelerators' document"
    if accelerator.price is None:
        return "it has no price; add one to the accelerators' document"
    if accelerator.price.currency != ask.currency:
        return f"its price is in {accelerator.price.currency}, which cannot be compared with {ask.currency}"
    return None


def dearer(hourly: float, currency: str) -> str:
    return f"fits and keeps it, but costs {money(hourly, currency)}/h"


def too_many(gpus: int, ask: Ask) -> str:
    return f"fits and keeps it, but needs {gpus} GPUs of the {ask.max_gpus} allowed"


def too_slow(miss: Miss, ask: Ask, margin: float) -> str:
    """What the nearest way misses, the worst first."""
    missed = sorted(misses(miss.speed, ask, margin).items(), key=lambda item: -item[1][0] / item[1][1])
    where = _devices(miss.serving)
    if not missed:
        return f"on {where}, a request alone is answered in time, but not {ask.percentile:.0%} of them as soon as several meet"
    said = " and ".join(f"{name} {_seconds(value)} > {_seconds(promised)}" for name, (value, promised) in missed)
    return f"{said} even at batch 1 on {where}{_banded(margin)}"


def too_small(serving: Serving, memory: Memory) -> str:
    """Of the nearest way that does not fit."""
    holder = _devices(serving)
    each = " each" if serving.devices > 1 else ""
    device, usable, weights = (_gib(value) for value in (memory.device, memory.usable, memory.weights))
    if memory.weights + memory.draft >= memory.usable:
        need = f"weights need {weights} of {usable} usable{each}"
    else:
        need = f"beside {weights} of weights, {_gib(memory.shortage)} are missing for {memory.max_model_len} tokens{each}"
    return f"{holder} has {device}{each}; {need}" if serving.devices == 1 else f"{holder} have {device}{each}; {need}"


def indivisible(model: ModelFacts) -> str:
    return f"no number of its devices divides the heads of {model.architecture}"


def _devices(serving: Serving) -> str:
    name = serving.accelerator.name
    if serving.devices == 1:
        return f"one {name}"
    return f"{serving.devices} {name}"


def _banded(margin: float) -> str:
    return f", {margin - 1:.0%} of margin counted in" if margin > 1 else ""


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"


def _seconds(value: float) -> str:
    """To three digits, so that what is just missed looks so."""
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"
