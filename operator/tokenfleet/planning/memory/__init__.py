"""What of a device's memory a model takes, and how many tokens find room in the rest. Pure; docs/memory.md has the formulas."""

from tokenfleet.planning.memory.estimate import estimate, longest_fit, sequences_at
from tokenfleet.planning.memory.fixes import fixes as _fixes
from tokenfleet.planning.memory.fixes import tensor_sizes
from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving

__all__ = ["Memory", "estimate_memory", "longest_fit", "sequences_at", "tensor_sizes"]


def estimate_memory(model: ModelFacts, serving: Serving, *, fixes: bool = True) -> Memory:
    """fixes: also say what to change where it does not fit, which takes some dozens of further estimates."""
    return estimate(model, serving, advice=_fixes if fixes else None)
