"""How fast one replica answers a workload, and how much it can take within bounds on its latency."""

from math import inf, sqrt
from statistics import NormalDist
from typing import Final

from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.speed.defaults import default_calibration
from tokenfleet.planning.speed.load import FULL, Load, at_concurrency, at_rate, loaded
from tokenfleet.planning.speed.replica import Replica, check_known, replica_of
from tokenfleet.planning.speed.speed import Calibration, Speed, Workload, check_lengths

_HALVINGS: Final = 12
"""Of the interval in which the greatest rate is looked for, by the root of the load, so that small ones are found as well."""


def estimate_speed(
    model: ModelFacts,
    serving: Serving,
    workload: Workload,
    calibration: Calibration | None = None,
    *,
    memory: Memory | None = None,
) -> Speed:
    """calibration: that of published measurements where None. memory: bounds the batch by the KV cache; without it,
    max_num_seqs alone does. Raises UnknownSpeed for a class without figures."""
    chosen = _calibration(serving, calibration)
    replica = replica_of(
        model,
        serving,
        chosen,
        input_tokens=workload.input_tokens,
        output_tokens=workload.output_tokens,
        cached_share=workload.cached_share,
        acceptance=workload.acceptance,
        memory=memory,
    )
    capacity = loaded(replica, FULL).rate
    if workload.rate is not None:
        load = at_rate(replica, min(workload.rate, capacity))
        wait, stable = load.place_wait(workload.variation), workload.rate <= capacity
    else:
        concurrency = workload.concurrency or 1.0
        load = at_concurrency(replica, concurrency, workload.variation)
        inside = load.decoding + load.rate * load.ttft(workload.variation)
        wait, stable = max(concurrency - inside, 0.0) / load.rate, True
    return _speed(load, workload, wait, stable, capacity, chosen)


def _speed(load: Load, workload: Workload, wait: float, stable: bool, capacity: float, calibration: Calibration) -> Speed:
    replica, spread = load.replica, NormalDist().inv_cdf(workload.percentile)
    ttft, itl = load.ttft(workload.variation) + wait, load.round / replica.tokens_per_round
    tail = load.ttft_tail(workload.percentile, spread, workload.variation)
    return Speed(
        stable=stable,
        batch=max(load.decoding, 1.0),
        ttft=ttft,
        itl=itl,
        e2e=ttft + (workload.output_tokens - 1) * itl,
        requests_per_second=load.rate,
        output_tokens_per_second=load.rate * workload.output_tokens,
        input_tokens_per_second=load.rate * workload.input_tokens,
        prefill_bound=replica.pace.parts(load.met, 1 / replica.chunks).bound,
        decode_bound=replica.pace.parts(min(1 + load.met, replica.places) / replica.pipeline).bound,
        error=calibration.error,
        ttft_error=_error(calibration.ttft_error, calibration),
        itl_error=_error(calibration.itl_error, calibration),
        throughput_error=_error(calibration.throughput_error, calibration),
        ttft_tail=max(tail if workload.rate is not None else tail + wait, ttft),
        itl_tail=max(load.itl_tail(workload.percentile, spread), itl),
        places=replica.places,
        capacity=capacity,
    )


def _error(own: float | None, calibration: Calibration) -> float:
    return calibration.error if own is None else own


def max_rate(
    model: ModelFacts,
    serving: Serving,
    *,
    input_tokens: int,
    output_tokens: int,
    ttft: float | None = None,
    itl: float | None = None,
    percentile: float = 0.95,
    cached_share: float = 0.0,
    variation: float = 0.0,
    acceptance: float = 0.6,
    calibration: Calibration | None = None,
    memory: Memory | None = None,
) -> float:
    """Greatest requests a second of one replica that keeps up and whose ttft and itl, in seconds, stay within these at the
    percentile; 0 where not even a single request does. Raises UnknownSpeed, and ValueError for lengths that cannot be."""
    check_lengths(input_tokens, output_tokens, cached_share=cached_share, percentile=percentile)
    replica = replica_of(
        model,
        serving,
        _calibration(serving, calibration),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_share=cached_share,
        acceptance=acceptance,
        memory=memory,
    )
    return _greatest(replica, inf if ttft is None else ttft, inf if itl is None else itl, percentile, variation)


def _greatest(replica: Replica, ttft: float, itl: float, percentile: float, variation: float) -> float:
    spread = NormalDist().inv_cdf(percentile)

    def meets(load: Load) -> bool:
        return load.itl_tail(percentile, spread) <= itl and load.ttft_tail(percentile, spread, variation) <= ttft

    best = loaded(replica, FULL)
    if meets(best):
        return best.rate
    low, high, rate = 0.0, sqrt(FULL), 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        load = loaded(replica, middle * middle)
        if meets(load):
            low, rate = middle, load.rate
        else:
            high = middle
    return rate


def _calibration(serving: Serving, calibration: Calibration | None) -> Calibration:
    check_known(serving.accelerator, calibration)
    return default_calibration(serving.accelerator) if calibration is None else calibration
