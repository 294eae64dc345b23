"""How fast a replica is: `estimate_speed`, `max_rate`, and calibrations by default and by measurement (docs/speed.md)."""

from tokenfleet.planning.speed.defaults import default_calibration
from tokenfleet.planning.speed.estimate import estimate_speed, max_rate
from tokenfleet.planning.speed.fitting import fit
from tokenfleet.planning.speed.points import Point
from tokenfleet.planning.speed.replica import UnknownSpeed
from tokenfleet.planning.speed.speed import Bound, Calibration, Speed, Workload

__all__ = [
    "Bound", "Calibration", "Point", "Speed", "UnknownSpeed", "Workload",
    "default_calibration", "estimate_speed", "fit", "max_rate",
]  # fmt: skip
