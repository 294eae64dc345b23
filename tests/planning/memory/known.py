"""Facts and settings that the tests of memory count with."""

from functools import cache
from typing import Any

from tests.planning.models.documents import document
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.memory import Memory, estimate_memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.model_facts import facts_of
from tokenfleet.planning.serving import Serving

GIB = 1 << 30
L4, A100, H100, B200, CPU = "nvidia-l4-24gb", "nvidia-a100-80gb", "nvidia-h100-80gb", "nvidia-b200-180gb", "cpu"


@cache
def facts(name: str) -> ModelFacts:
    """Of a model of tests/planning/models/configs.json."""
    return facts_of(document(name, stored="F8_E4M3" if name == "DeepSeek-V3" else None))


def serving(accelerator: str, **settings: Any) -> Serving:
    return Serving(accelerator=find_accelerator(accelerator), **settings)


def planned(name: str, accelerator: str, **settings: Any) -> Memory:
    return estimate_memory(facts(name), serving(accelerator, **settings))
