"""What to buy for a model and a load: the cheapest way to run it that keeps its promises. Pure, and exhaustive over its space.

`optimize(model, ask)` looks at every way of running the model that vLLM can do on the classes there are (space.py), drops what
does not fit (planning.memory) or is too slow (planning.speed), and orders the rest by what an hour of it costs.
"""

from tokenfleet.planning.optimize.ask import Ask, InvalidAsk
from tokenfleet.planning.optimize.candidate import Candidate, Failure, Outcome
from tokenfleet.planning.optimize.search import optimize

__all__ = ["Ask", "Candidate", "Failure", "InvalidAsk", "Outcome", "optimize"]
