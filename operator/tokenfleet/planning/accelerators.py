"""The accelerator classes: what a pod asks the scheduler for, by the name that the user writes.

The data is accelerators.toml beside this module, read once. A class that the file does not have is the user's mistake, so
looking it up raises InvalidSpec with the classes that there are.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

from tokenfleet.api import conditions
from tokenfleet.errors import InvalidSpec

PRODUCT_LABEL = "nvidia.com/gpu.product"
"""The node label whose values `products` lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One class of hardware that a replica can run on."""

    name: str
    summary: str
    """One sentence, for docs and messages."""
    engine: Literal["vllm", "simulated"] = "vllm"
    """What runs there. A simulator reads no model."""
    resource: str | None = None
    """The extended resource that a pod asks for; None: the class needs no device."""
    products: tuple[str, ...] = ()
    """Values of PRODUCT_LABEL of which a node must have one; empty: any node will do."""

    @property
    def simulated(self) -> bool:
        return self.engine == "simulated"


@cache
def accelerators() -> Mapping[str, Accelerator]:
    """All classes by name, in the order of the file."""
    document = tomllib.loads(files(__package__).joinpath("accelerators.toml").read_text(encoding="utf-8"))
    return MappingProxyType({name: _accelerator(name, **fields) for name, fields in document.items()})


def _accelerator(name: str, *, products: Sequence[str] = (), **fields: Any) -> Accelerator:
    return Accelerator(name=name, products=tuple(products), **fields)


def find_accelerator(name: str) -> Accelerator:
    """The class that a spec names; raises InvalidSpec where there is none."""
    try:
        return accelerators()[name]
    except KeyError:
        raise InvalidSpec(
            f"spec.accelerator: no class is called {name!r}; there are {', '.join(accelerators())}. "
            "For another NVIDIA GPU write nvidia, and choose its nodes by spec.podTemplate.spec.nodeSelector",
            reason=conditions.UNKNOWN_ACCELERATOR,
        ) from None
