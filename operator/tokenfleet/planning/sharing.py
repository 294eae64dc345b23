"""Which LLMDeployments of a shared router answer for which model: the one reading of `spec.routes`, for controller and router.

Every LLMDeployment is served under its servedName, in equal shares where several have the same one. A route with targets puts
these in their place; a route without any keeps them, and adds fallbacks. What is not there is left out, and the rest goes on; a
model of which nothing is left is its first fallback by another name.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Target(Protocol):
    """Of a route."""

    @property
    def deployment(self) -> str: ...
    @property
    def weight(self) -> int: ...


class Route(Protocol):
    """As an LLMRouter's spec has it."""

    @property
    def model(self) -> str: ...
    @property
    def targets(self) -> Sequence[Target]: ...
    @property
    def fallbacks(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a model's requests."""

    deployment: str
    weight: int


@dataclass(frozen=True, slots=True)
class Served:
    """What answers for one model."""

    shares: tuple[Share, ...]
    fallbacks: tuple[str, ...] = ()
    """Models that are served, in the order in which to try them."""


def share_out(routes: Iterable[Route], members: Mapping[str, str]) -> dict[str, Served]:
    """What is served, by model. members: the served name of each LLMDeployment, by its own name."""
    routed = {route.model: route for route in routes}
    shares = _shares(routed.values(), members)
    served = {}
    for model in dict.fromkeys((*shares, *routed)):
        named = routed[model].fallbacks if model in routed else ()
        answering = [name for name in (model, *named) if name in shares]
        if answering:
            served[model] = Served(shares[answering[0]], tuple(answering[1:]))
    return served


def unresolved(routes: Iterable[Route], members: Mapping[str, str]) -> Iterator[str]:
    """What the routes name and is not there, and who is left with nothing to do: a sentence each."""
    listed = list(routes)
    shares = _shares(listed, members)
    for route in listed:
        for target in route.targets:
            if target.deployment not in members:
                yield f"Route {route.model}: no LLMDeployment {target.deployment} names this router by spec.routerRef."
        for name in route.fallbacks:
            if name not in shares:
                yield f"Route {route.model}: no LLMDeployment of this router serves the fallback {name}."
        if not route.targets and route.model not in shares:
            yield f"Route {route.model}: no LLMDeployment of this router has that servedName, and the route has no targets."
    busy = {share.deployment for answering in shares.values() for share in answering}
    for deployment, model in members.items():
        if deployment not in busy:
            yield f"LLMDeployment {deployment} gets no requests: the route of its model {model} has other targets."


def _shares(routes: Iterable[Route], members: Mapping[str, str]) -> dict[str, tuple[Share, ...]]:
    """What answers for a model itself, before any fallback; models of which nothing is there are left out."""
    shares: dict[str, tuple[Share, ...]] = {}
    for deployment, model in members.items():
        shares[model] = (*shares.get(model, ()), Share(deployment, 1))
    for route in routes:
        if route.targets:
            shares[route.model] = tuple(Share(one.deployment, one.weight) for one in route.targets if one.deployment in members)
    return {model: answering for model, answering in shares.items() if answering}
