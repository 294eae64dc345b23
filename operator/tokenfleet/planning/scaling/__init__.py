"""How many replicas a deployment should have: a pure policy, its replay on a recorded trace, and a simulation to try it on.

`Scaler` decides, from a `Policy` (the spec's) and a `Signal` (the routers' and the pods'), with the clock as a parameter. It
reads nothing and does nothing: the controller feeds it and acts. Deciding twice at one time, with one signal, is deciding once.
docs/scaling.md says the same in words.
"""

from tokenfleet.planning.scaling.policy import Policy, Schedule, policy_of
from tokenfleet.planning.scaling.reasons import REASONS
from tokenfleet.planning.scaling.scaler import Scaler
from tokenfleet.planning.scaling.signal import Decision, Signal

__all__ = ["REASONS", "Decision", "Policy", "Scaler", "Schedule", "Signal", "policy_of"]
