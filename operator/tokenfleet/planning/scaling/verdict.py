"""From what is wanted to what is decided: the bounds and the budget, which of them bound, and the sentence that says so."""

from tokenfleet.planning.scaling import reasons
from tokenfleet.planning.scaling.demand import Want, counted
from tokenfleet.planning.scaling.schedules import Bounds
from tokenfleet.planning.scaling.signal import Decision, Signal


def bounded(desired: int, want: Want | None, bounds: Bounds, budget: int | None) -> Decision | None:
    """A change of the count, or None. The budget keeps it from rising, and takes nothing away: what runs has its place."""
    wanted = desired if want is None else want.count
    allowed = min(max(wanted, bounds.least), bounds.most)
    count = allowed if budget is None or allowed <= desired else min(allowed, max(budget, desired))
    if count == desired:
        return None
    if want is None or (count > wanted and count > desired):
        above = wanted > bounds.most
        bound = "maxReplicas" if above else "minReplicas"
        want = Want(allowed, reasons.MAX_REPLICAS if above else reasons.MIN_REPLICAS, f"{bound} is {allowed}{_whose(bounds)}")
    if count < desired:
        return _fewer(desired, count, want, bounds)
    if count < allowed:
        text = f"{want.cause}: {allowed} wanted, and the budget of GPUs has room for {count}."
        return Decision(count, reasons.BUDGET_EXHAUSTED, text)
    if count < want.count:
        text = f"{want.cause}: {want.count} wanted, and maxReplicas is {count}{_whose(bounds)}."
        return Decision(count, reasons.MAX_REPLICAS, text)
    return Decision(count, want.reason, f"{want.cause}: {count} wanted.")


def _fewer(desired: int, count: int, want: Want, bounds: Bounds) -> Decision:
    cause = want.cause
    if count > want.count:
        cause += f", and minReplicas is {count}{_whose(bounds)}"
    return Decision(count, want.reason, f"{cause}: {count} wanted instead of {desired}.")


def held(desired: int, need: float, signal: Signal, bounds: Bounds, budget: int | None, *, by_hand: bool) -> Decision:
    """Why the count stays. need: the highest of the window, so that the answer does not change with every request."""
    whose = _whose(bounds)
    if budget is not None and budget <= desired < min(max(need, bounds.least), bounds.most):
        text = f"More are wanted than the {counted(desired, 'replica')} that the budget of GPUs has room for."
        return Decision(desired, reasons.BUDGET_EXHAUSTED, text)
    if need > desired >= bounds.most:
        return Decision(desired, reasons.MAX_REPLICAS, f"More are wanted than maxReplicas, {bounds.most}{whose}.")
    if not desired:
        return Decision(desired, reasons.SCALED_TO_ZERO, "None runs. The next request wakes the model.")
    if signal.pending:
        return Decision(desired, reasons.PODS_PENDING, f"{desired} wanted, and not all of them have a node.")
    if signal.ready < desired:
        return Decision(desired, reasons.WARMING_UP, f"{desired} wanted, and not all of them serve yet.")
    if by_hand:
        return Decision(desired, reasons.REPLICAS_SET, f"spec.replicas was set: {desired} wanted.")
    if need < desired == bounds.least:
        return Decision(desired, reasons.MIN_REPLICAS, f"minReplicas is {desired}{whose}, and the load needs fewer.")
    return Decision(desired, reasons.STEADY, f"The load needs {counted(desired, 'replica')}.")


def _whose(bounds: Bounds) -> str:
    return f" by {bounds.source}" if bounds.source else ""
