"""What the requests of one try show of one promise: met, missed, or not clear yet. Pure.

Samples that come together are alike: all sequences of a batch wait for the same step, and a disturbance delays everything that
runs at the time. To count them as independent would claim more confidence than there is, so they are counted as fewer (the
design effect: L. Kish, Survey Sampling, 8.2; its use in an interval of a share: E. L. Korn, B. I. Graubard, Survey
Methodology 24, 1998): by how much more the shares of successive groups of requests differ than those of independent samples
would."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

from tokenfleet.planning.tuning.confidence import least_within, met, missed, most_within
from tokenfleet.planning.tuning.objective import Objective, Seen

Verdict = Literal["met", "missed", "unclear"]

TURNS: Final = 4
"""How often all places of a batch have to be taken anew before a promise counts as met: what comes later is seen as well."""
_GROUPS: Final = 20
_FEWEST_GROUPS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Of one promise."""

    verdict: Verdict
    over: bool
    """More requests cannot change it, or there may be no more."""
    within: float
    """Samples within the limit, counted as independent ones."""
    total: float


def judge(objective: Objective, seen: Sequence[Seen], *, concurrency: int, alpha: float, most: int) -> Finding:
    """seen: requests, by when they ended. most: requests in this try at most. alpha: how often each answer may be wrong."""
    within, total = _independent(objective, seen, concurrency)
    turns = len(seen) / concurrency
    verdict: Verdict = "unclear"
    if turns >= TURNS and met(within, total, share=objective.share, alpha=alpha):
        verdict = "met"
    elif turns >= 1 and missed(within, total, share=objective.share, alpha=alpha):
        verdict = "missed"
    over = verdict != "unclear" or len(seen) >= most or _hopeless(objective, seen, within, total, alpha=alpha, most=most)
    return Finding(verdict=verdict, over=over, within=within, total=total)


def shares_around(objective: Objective, finding: Finding, *, alpha: float) -> tuple[float | None, float | None]:
    """(low, high): the percentile lies above the value that `low` of all samples are within, and at or below that of `high`.

    None: so few samples say nothing.
    """
    least, greatest = (bound(finding.total, share=objective.share, alpha=alpha) for bound in (least_within, most_within))
    low = greatest / finding.total if finding.total and greatest >= 0 else None
    return low, least / finding.total if finding.total and least <= finding.total else None


def _independent(objective: Objective, seen: Sequence[Seen], concurrency: int) -> tuple[float, float]:
    """(within the limit, all)"""
    within, total = sum(each.within for each in seen), sum(each.total for each in seen)
    alike = _alike(objective, seen, concurrency)
    return within / alike, total / alike


def _hopeless(objective: Objective, seen: Sequence[Seen], within: float, total: float, *, alpha: float, most: int) -> bool:
    """Whether the promise would not be met even if all requests that are left kept it."""
    if not seen or len(seen) >= most:
        return False
    left = (most - len(seen)) * total / len(seen)
    return not met(within + left, total + left, share=objective.share, alpha=alpha)


def _alike(objective: Objective, seen: Sequence[Seen], concurrency: int) -> float:
    """How many samples say as much as one independent one; at least 1.

    Every sequence of a batch has a gap in each step, and it is the same one: so many say no more than one.
    """
    expected = float(concurrency) if objective.metric == "itl" else 1.0
    groups = min(_GROUPS, len(seen) // max(concurrency, 1))
    if groups < _FEWEST_GROUPS:
        return expected
    size = ceil(len(seen) / groups)
    parts = [seen[start : start + size] for start in range(0, len(seen), size)]
    counts = [(sum(each.within for each in part), sum(each.total for each in part)) for part in parts]
    values = sum(total for _, total in counts)
    share = sum(within for within, _ in counts) / values if values else 0.0
    if not 0 < share < 1:
        return expected
    spread = sum((total * (within / total - share)) ** 2 for within, total in counts if total) * len(parts) / (len(parts) - 1)
    return max(expected, spread / (values * share * (1 - share)))
