"""What a load asks for: pure checks, each of which may want a number of replicas, and says why.

All of them rise with the load. What fits on fewer is not asked here, but of the window over all that was.
"""

from dataclasses import dataclass
from math import ceil

from tokenfleet.planning.scaling import reasons
from tokenfleet.planning.scaling.policy import FIT_SLO, Policy
from tokenfleet.planning.scaling.signal import Signal


@dataclass(frozen=True, slots=True)
class Want:
    """So many replicas."""

    count: int
    reason: str
    cause: str
    """The beginning of a sentence that ends with the count."""


def by_queue(policy: Policy, signal: Signal, *, carries: float, fresh: int) -> Want | None:
    """As many as leave at most queue_depth waiting for each, once those that are not there yet have taken what they carry.

    Counted from those that serve, so it does not matter which of the others load already: a queue that stands asks for no more
    while they do, and pods that never get a node do not add up. carries: requests, for each. fresh: of those that serve, the
    ones that have yet to take something.
    """
    left = signal.waiting - fresh * carries - signal.ready * policy.queue_depth
    if left <= 0:
        return None
    count = signal.ready + ceil(left / (carries + policy.queue_depth))
    waiting = counted(signal.waiting, "request waits", "requests wait")
    if signal.starting:
        others = f"{signal.starting} more that {'is' if signal.starting == 1 else 'are'} starting"
        cause = f"{waiting} for {counted(signal.ready, 'replica')}, and {others}"
    elif signal.ready:
        cause = f"{waiting} for {counted(signal.ready, 'replica')}, more than {policy.queue_depth} each"
    else:
        cause = f"{waiting}, and no replica serves or is starting"
    return Want(count, reasons.QUEUE_DEPTH, cause)


def by_concurrency(policy: Policy, signal: Signal) -> Want | None:
    """As many as have at most `concurrency` each."""
    if policy.concurrency is None or not signal.load:
        return None
    count = ceil(signal.load / policy.concurrency)
    load = counted(signal.load, "request runs or waits", "requests run or wait")
    return Want(count, reasons.CONCURRENCY, f"{load}, of which each replica should have {policy.concurrency}")


def by_latency(policy: Policy, signal: Signal) -> Want | None:
    """One more than serve, where a promise is broken and more could help: no replica can share a single request."""
    if signal.load <= signal.ready:
        return None
    for reason, what, measured, promised in (
        (reasons.TTFT, "First tokens take", signal.ttft_p95, policy.ttft_seconds),
        (reasons.ITL, "Tokens take", signal.itl_p95, policy.itl_seconds),
    ):
        if measured is not None and promised is not None and measured > promised:
            figures = f"{1000 * measured:.0f} ms at the 95th percentile, and {1000 * promised:.0f} ms are promised"
            return Want(signal.ready + 1, reason, f"{what} {figures}, with {counted(signal.ready, 'replica')}")
    return None


def strained(policy: Policy, signal: Signal) -> bool:
    """Whether a promise is so nearly broken that fewer replicas would break it."""
    pairs = ((signal.ttft_p95, policy.ttft_seconds), (signal.itl_p95, policy.itl_seconds))
    near = any(seen is not None and promised is not None and seen > FIT_SLO * promised for seen, promised in pairs)
    return near and signal.load > signal.ready


def counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
