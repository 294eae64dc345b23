"""From an object as the API server has it to its spec, checked: each mistake becomes a sentence with the field's path."""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from tokenfleet import contract
from tokenfleet.api.deployment import LLMDeploymentSpec
from tokenfleet.api.routes import LLMRouterSpec
from tokenfleet.api.rules import Rule, Ruled, matches
from tokenfleet.api.scalars import OBJECT_NAME
from tokenfleet.errors import InvalidSpec

_SHOWN = 80
_Model = TypeVar("_Model", bound=Ruled)

NAME_RULE = Rule(
    cel=f"self.metadata.name.size() <= {contract.MAX_NAME_LENGTH} && self.metadata.name.matches('{OBJECT_NAME}')",
    message=f"metadata.name must begin with a letter, hold only a-z, 0-9 and '-', and have at most "
    f"{contract.MAX_NAME_LENGTH} characters, so that the names of its Services and pods fit",
    holds=lambda name: len(name) <= contract.MAX_NAME_LENGTH and matches(OBJECT_NAME, name),
)
"""On the whole object, of either kind; `holds` takes the name."""
ADAPTERS_RULE = Rule(
    cel="has(self.spec.model.servedName) || !self.spec.model.adapters.exists(one, one.name == self.metadata.name)",
    message="spec.model.adapters must not have the LLMDeployment's name, which is the model without an adapter: rename the "
    "adapter, or set servedName",
    holds=lambda named: named[1].model.served_name is not None or all(one.name != named[0] for one in named[1].model.adapters),
)
"""On the whole LLMDeployment; `holds` takes its name and its spec."""
OBJECT_RULES = {contract.KIND: (NAME_RULE, ADAPTERS_RULE), contract.ROUTER_KIND: (NAME_RULE,)}
"""By kind."""

Spec = LLMDeploymentSpec | LLMRouterSpec


def parse_spec(name: str, spec: Any) -> LLMDeploymentSpec:
    """The spec of the LLMDeployment `name`, checked; raises InvalidSpec with a line for every field that is wrong."""
    parsed = _parse(LLMDeploymentSpec, contract.PLURAL, name, spec)
    if not ADAPTERS_RULE.holds((name, parsed)):
        raise InvalidSpec(ADAPTERS_RULE.message)
    return parsed


def parse_router_spec(name: str, spec: Any) -> LLMRouterSpec:
    """The spec of the LLMRouter `name`, likewise."""
    return _parse(LLMRouterSpec, contract.ROUTER_PLURAL, name, spec)


PARSERS: dict[str, Callable[[str, Any], Spec]] = {contract.KIND: parse_spec, contract.ROUTER_KIND: parse_router_spec}
"""By kind."""


def _parse(model: type[_Model], plural: str, name: str, spec: Any) -> _Model:
    if not NAME_RULE.holds(name):
        raise InvalidSpec(NAME_RULE.message)
    try:
        return model.model_validate(spec)
    except ValidationError as error:
        raise InvalidSpec("; ".join(_explain(problem, plural) for problem in error.errors())) from error


def _explain(problem: Any, plural: str) -> str:
    """One pydantic problem as `spec.field: what is wrong`."""
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    match problem["type"]:
        case "extra_forbidden":
            return f"{path}: no such field; kubectl explain {plural}.{path.rpartition('.')[0]} lists those there are"
        case "missing":
            return f"{path}: required"
        case "model_type" | "dict_type":
            return f"{path}: must be an object"
    message = str(problem["msg"]).removeprefix("Value error, ")
    given = problem["input"]
    return f"{path}: {message}" + ("" if isinstance(given, dict | list | Ruled) else f" (given: {_short(repr(given))})")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
