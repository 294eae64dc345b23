"""The largest batch that meets a latency promise: what to try next, and when a try has shown enough. Pure.

`next_step` decides from the tries so far, and from nothing else: a search that is begun again with the tries of one that was
killed goes on exactly as that would have. `judge` says of a try's requests whether a percentile meets its limit, and with what
confidence. Neither measures anything.
"""

from tokenfleet.planning.tuning.judging import Finding, Verdict, judge, shares_around
from tokenfleet.planning.tuning.objective import METRICS, Metric, Objective, Seen, observe
from tokenfleet.planning.tuning.probe import Measured, Probe
from tokenfleet.planning.tuning.search import Found, Search, Try, next_step

__all__ = [
    "METRICS",
    "Finding",
    "Found",
    "Measured",
    "Metric",
    "Objective",
    "Probe",
    "Search",
    "Seen",
    "Try",
    "Verdict",
    "judge",
    "next_step",
    "observe",
    "shares_around",
]
