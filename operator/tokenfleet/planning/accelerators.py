"""The accelerator classes: what a pod asks the scheduler for, what the hardware can do and what it costs, by the user's name.

The data is accelerators.toml beside this module, and what a cluster adds to it or changes in it (`extend`, called once by each
process as it starts, and again when the addition has changed). A class that is nowhere is the user's mistake, so looking it up
raises InvalidSpec with the classes that there are; a mistake in an addition raises InvalidAccelerators, and changes nothing.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tokenfleet.api import conditions
from tokenfleet.errors import InvalidSpec, TokenfleetError

PRODUCT_LABEL = "nvidia.com/gpu.product"
"""The node label whose values `products` lists."""
_NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

Precision = Literal["fp32", "fp16", "bf16", "fp8", "int8", "fp4"]


class InvalidAccelerators(TokenfleetError):
    """A document of classes cannot be read; the message names the class and the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Of one device for an hour (of one replica, where the class has no device)."""

    on_demand: float
    spot: float | None = None
    currency: str = "USD"
    source: str = ""
    """Whose price, and as of when: AWS p5.48xlarge / 8, us-east-1, 2026-03."""


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
    node_labels: Mapping[str, str] = field(default_factory=dict)
    """Other labels that a node must have."""
    memory: int | None = None
    """Bytes of one device, as its driver tells them; None: not known."""
    bandwidth: float | None = None
    """Of that memory, in bytes a second."""
    flops: Mapping[Precision, float] = field(default_factory=dict)
    """Of dense matrices, in operations a second, by the precision of the numbers."""
    interconnect: float | None = None
    """To the other devices of a node, in bytes a second in one direction; None: not known."""
    per_node: int = 8
    """Devices that a node has at most, and so the most that share a layer."""
    price: Price | None = None

    @property
    def simulated(self) -> bool:
        return self.engine == "simulated"

    @property
    def plannable(self) -> bool:
        """Whether memory and speed can be told for it."""
        return self.memory is not None and self.bandwidth is not None and bool(self.flops)


class _PriceDocument(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    on_demand: float = Field(gt=0)
    spot: float | None = Field(default=None, gt=0)
    currency: str = Field(default="USD", pattern="^[A-Z]{3}$")
    source: str = ""


class _Document(BaseModel):
    """A class as a file has it: GB are 10^9 bytes, MiB 2^20."""

    model_config = ConfigDict(extra="forbid", strict=True)

    summary: str = Field(min_length=1)
    engine: Literal["vllm", "simulated"] = "vllm"
    resource: str | None = Field(default=None, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    products: list[str] = []
    node_labels: dict[str, str] = {}
    memory_mib: int | None = Field(default=None, gt=0)
    bandwidth_gb: float | None = Field(default=None, gt=0)
    teraflops: dict[Precision, float] = {}
    interconnect_gb: float | None = Field(default=None, gt=0)
    per_node: int = Field(default=8, ge=1, le=1024)
    price: _PriceDocument | None = None

    @model_validator(mode="after")
    def _operations_are_positive(self) -> "_Document":
        if any(value <= 0 for value in self.teraflops.values()):
            raise ValueError("teraflops must be above 0")
        return self

    def accelerator(self, name: str) -> Accelerator:
        return Accelerator(
            name=name,
            summary=self.summary,
            engine=self.engine,
            resource=self.resource,
            products=tuple(self.products),
            node_labels=MappingProxyType(dict(self.node_labels)),
            memory=None if self.memory_mib is None else self.memory_mib << 20,
            bandwidth=None if self.bandwidth_gb is None else self.bandwidth_gb * 1e9,
            flops=MappingProxyType({precision: value * 1e12 for precision, value in self.teraflops.items()}),
            interconnect=None if self.interconnect_gb is None else self.interconnect_gb * 1e9,
            per_node=self.per_node,
            price=None if self.price is None else Price(**self.price.model_dump()),
        )


@cache
def _documents() -> Mapping[str, Mapping[str, Any]]:
    """The classes that come with Tokenfleet, in the order of the file."""
    return tomllib.loads(files(__package__).joinpath("accelerators.toml").read_text(encoding="utf-8"))


_added: dict[str, Accelerator] = {}
"""What this process was told of in addition; `extend` replaces it as a whole."""


@cache
def _built_in() -> Mapping[str, Accelerator]:
    return parse_accelerators(_documents(), origin="accelerators.toml")


def accelerators() -> Mapping[str, Accelerator]:
    """All classes by name, in the order of the file; those of `extend` last, or in the place of the one that they change."""
    return MappingProxyType({**_built_in(), **_added})


def extend(text: str, *, origin: str) -> None:
    """Add the classes of a document, or change those of the same name field by field. An empty text takes all back.

    The document is TOML, or JSON of the same form: an object of objects. origin: what it is called in messages. Raises
    InvalidAccelerators, and then all is as it was.
    """
    document = _read(text, origin=origin)
    known = _documents()
    whole = {
        name: {**known.get(name, {}), **fields} if isinstance(fields, dict) else fields for name, fields in document.items()
    }
    added = parse_accelerators(whole, origin=origin)
    _added.clear()
    _added.update(added)


def _read(text: str, *, origin: str) -> Mapping[str, Any]:
    is_json = text.lstrip().startswith("{")  # As no TOML does.
    try:
        document: Mapping[str, Any] = json.loads(text) if is_json else tomllib.loads(text)
    except ValueError as error:
        raise InvalidAccelerators(f"{origin} is no {'JSON' if is_json else 'TOML'}: {error}.") from error
    return document


def parse_accelerators(document: Mapping[str, Any], *, origin: str) -> dict[str, Accelerator]:
    """Classes by name. Raises InvalidAccelerators with a line for every mistake."""
    found, mistakes = {}, []
    for name, fields in document.items():
        try:
            _check_name(name)
            found[name] = _Document.model_validate(fields).accelerator(name)
        except ValidationError as error:
            mistakes += [_explain(name, problem) for problem in error.errors()]
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise InvalidAccelerators(f"{origin}: {'; '.join(mistakes)}")
    return found


def _check_name(name: str) -> None:
    if not re.match(_NAME, name):
        raise ValueError(f"[{name}]: a class's name has a-z, 0-9 and '-', such as nvidia-h100-80gb")


def _explain(name: str, problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, _Document.model_fields, n=1)
        return f"[{name}] has no field {where}" + (f"; did you mean {near[0]}?" if near else "")
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"[{name}] {where}: {message}" if where else f"[{name}]: {message}"


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
