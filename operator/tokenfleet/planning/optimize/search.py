"""The search: every way of each class is looked at, the cheapest is the best, and each class that is not says why. Pure.

Exhaustive, so that what it promises is simple: the cost is the least of price × devices × replicas over all that fits and keeps
what is promised, and replicas are the rate over a capacity that does not depend on the rate. Hence more load never costs less,
nor does a stricter promise. What is left out can be none of the best: of one class, ways of which a single set of replicas
costs several times what has been found, since others of that class are shown beside it only where they come near.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tokenfleet.planning.accelerators import Accelerator, accelerators, find_accelerator
from tokenfleet.planning.cost import hourly
from tokenfleet.planning.memory import estimate_memory
from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.optimize import limits, reasons
from tokenfleet.planning.optimize.ask import Ask
from tokenfleet.planning.optimize.candidate import Candidate, Failure, Miss, Outcome
from tokenfleet.planning.optimize.promises import capacity, margin_of, misses
from tokenfleet.planning.optimize.space import servings
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed import default_calibration, estimate_speed
from tokenfleet.planning.speed.speed import Calibration, Workload

_ROUNDING: Final = 1e-9
_NEAR: Final = 4.0
"""Times the cheapest of its class: beyond, a way is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One that does all that is asked; a Candidate once its speed is wanted."""

    serving: Serving
    memory: Memory
    capacity: float
    replicas: int
    hourly: float

    @property
    def group(self) -> tuple[int, str | None]:
        return self.serving.devices, self.serving.quantization

    def rank(self, ask: Ask) -> tuple[float, int, int, float, int]:
        """The cheapest; of equals that which loses least, takes fewer devices, is used less and needs the smaller batch."""
        lost = (self.serving.quantization is not None) + (self.serving.kv_dtype != "auto")
        devices = self.serving.devices * self.replicas
        return self.hourly, lost, devices, ask.rate / (self.replicas * self.capacity), self.serving.max_num_seqs or 0


@dataclass(slots=True)
class _Survey:
    """What was found out of one class."""

    accelerator: Accelerator
    calibration: Calibration
    ways: list[_Way] = field(default_factory=list)
    slow: list[tuple[Serving, Memory]] = field(default_factory=list)
    short: list[tuple[Serving, Memory]] = field(default_factory=list)
    many: list[int] = field(default_factory=list)
    """GPUs of those that would need more than may be bought."""
    tried: int = 0


def optimize(model: ModelFacts, ask: Ask) -> Outcome:
    """Raises InvalidAsk where the model cannot read so long a sequence, and InvalidSpec for a class that there is not."""
    ask.check(model)
    failures: dict[str, Failure] = {}
    surveys: list[_Survey] = []
    for accelerator in _classes(ask):
        reason = reasons.not_considered(accelerator, ask) or limits.refusal(model, accelerator)
        if reason is not None:
            failures[accelerator.name] = Failure(accelerator=accelerator.name, reason=reason)
        else:
            surveys.append(_survey(model, accelerator, ask))
    ordered = sorted((way for survey in surveys for way in _cheapest(survey, ask)), key=lambda way: way.rank(ask))
    found = [_candidate(model, way, ask, surveys) for way in ordered]
    best = found[0] if found else None
    for survey in surveys:
        if best is None or survey.accelerator.name != best.serving.accelerator.name:
            failures[survey.accelerator.name] = _failure(model, survey, ask)
    names = [each.name for each in _classes(ask) if each.name in failures]
    return Outcome(
        best=best,
        runners_up=tuple(found[1:]),
        failures=tuple(failures[name] for name in names),
        tried=sum(survey.tried for survey in surveys),
    )


def _classes(ask: Ask) -> Sequence[Accelerator]:
    """Those that were named; else all on which a model can run and of which there is something to count with."""
    if ask.accelerators is not None:
        return [find_accelerator(name) for name in dict.fromkeys(ask.accelerators)]
    return [each for each in accelerators().values() if each.plannable and not each.simulated]


def _survey(model: ModelFacts, accelerator: Accelerator, ask: Ask) -> _Survey:
    calibration = ask.calibrations.get(accelerator.name) or default_calibration(accelerator)
    survey = _Survey(accelerator=accelerator, calibration=calibration)
    least = math.inf
    for serving in servings(model, accelerator, ask):
        price = hourly(accelerator, serving.devices, 1, spot=ask.spot) or 0.0
        if price * ask.min_replicas > _NEAR * least:
            break  # The next have as many devices or more.
        survey.tried += 1
        way = _look(model, serving, ask, survey, price)
        if way is not None:
            survey.ways.append(way)
            least = min(least, way.hourly)
    return survey


def _look(model: ModelFacts, serving: Serving, ask: Ask, survey: _Survey, price: float) -> _Way | None:
    """None: it does not fit, is too slow, or takes too many GPUs, which the survey keeps."""
    memory = estimate_memory(model, serving, fixes=False)
    if not memory.fits:
        survey.short.append((serving, memory))
        return None
    able = capacity(model, serving, memory, ask, survey.calibration)
    if able <= 0:
        survey.slow.append((serving, memory))
        return None
    replicas = max(ask.min_replicas, math.ceil(ask.rate * (1 + ask.headroom) / able * (1 - _ROUNDING)))
    if ask.max_gpus is not None and replicas * serving.devices > ask.max_gpus:
        survey.many.append(replicas * serving.devices)
        return None
    return _Way(serving=serving, memory=memory, capacity=able, replicas=replicas, hourly=price * replicas)


def _cheapest(survey: _Survey, ask: Ask) -> Iterator[_Way]:
    """One for each number of devices and precision of the weights."""
    groups: dict[tuple[int, str | None], list[_Way]] = {}
    for way in survey.ways:
        groups.setdefault(way.group, []).append(way)
    for ways in groups.values():
        yield min(ways, key=lambda way: way.rank(ask))


def _candidate(model: ModelFacts, way: _Way, ask: Ask, surveys: Sequence[_Survey]) -> Candidate:
    survey = next(each for each in surveys if each.accelerator is way.serving.accelerator)
    workload = _workload(ask, rate=ask.rate / way.replicas)
    price = survey.accelerator.price
    return Candidate(
        serving=way.serving,
        replicas=way.replicas,
        capacity=way.capacity,
        memory=way.memory,
        speed=estimate_speed(model, way.serving, workload, survey.calibration, memory=way.memory),
        hourly=way.hourly,
        per_million_tokens=way.hourly / ask.hourly_tokens * 1e6,
        utilization=ask.rate / (way.replicas * way.capacity),
        currency=price.currency if price is not None else ask.currency,
    )


def _workload(ask: Ask, *, rate: float | None = None, concurrency: float | None = None) -> Workload:
    return Workload(
        input_tokens=ask.input_tokens,
        output_tokens=ask.output_tokens,
        rate=rate,
        concurrency=concurrency,
        percentile=ask.percentile,
    )


def _failure(model: ModelFacts, survey: _Survey, ask: Ask) -> Failure:
    """Of a class that is not the best's: the furthest that any of its ways came."""
    name = survey.accelerator.name
    if survey.ways:
        cheapest = min(way.hourly for way in survey.ways)
        return Failure(accelerator=name, reason=reasons.dearer(cheapest, ask.currency), hourly=cheapest)
    if survey.many:
        return Failure(accelerator=name, reason=reasons.too_many(min(survey.many), ask))
    if survey.slow:
        miss = _nearest(model, survey, ask)
        return Failure(accelerator=name, reason=reasons.too_slow(miss, ask, margin_of(ask, survey.calibration)), miss=miss)
    if survey.short:
        return Failure(accelerator=name, reason=reasons.too_small(*min(survey.short, key=lambda pair: pair[1].shortage)))
    return Failure(accelerator=name, reason=reasons.indivisible(model))


def _nearest(model: ModelFacts, survey: _Survey, ask: Ask) -> Miss:
    """Of what fits: that which misses least with one request at a time, where nobody waits for another."""
    margin = margin_of(ask, survey.calibration)
    workload = _workload(ask, concurrency=1)
    found: dict[tuple[int, int, str | None, str], Miss] = {}
    for serving, memory in survey.slow:
        way = serving.tensor, serving.pipeline, serving.quantization, serving.kv_dtype
        if way in found:  # Another batch makes no difference to a single request.
            continue
        speed = estimate_speed(model, serving, workload, survey.calibration, memory=memory)
        by = max((value / promised for value, promised in misses(speed, ask, margin).values()), default=1.0)
        found[way] = Miss(serving=serving, memory=memory, speed=speed, by=by)
    return min(found.values(), key=lambda miss: miss.by)
