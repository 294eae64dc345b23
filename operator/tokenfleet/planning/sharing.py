"""Which LLMDeployments of a shared router answer for which model: the one reading of `spec.routes`, for controller and router.

Every LLMDeployment is served under its servedName, in equal shares where several have the same one, and so are its adapters
under theirs; where an adapter is called like a model, the model has the name. A route with targets puts these in their place,
each with its adapter of that name where it has one; a route without any keeps them, and adds fallbacks. What is not there is
left out, and the rest goes on; a model of which nothing is left is its first fallback by another name.
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
class Member:
    """An LLMDeployment that the router serves."""

    model: str
    """Its served name."""
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a model's requests."""

    deployment: str
    weight: int
    adapter: str | None = None
    """That answers; None: the LLMDeployment's model itself."""


@dataclass(frozen=True, slots=True)
class Served:
    """What answers for one model."""

    shares: tuple[Share, ...]
    fallbacks: tuple[str, ...] = ()
    """Models that are served, in the order in which to try them."""


def share_out(routes: Iterable[Route], members: Mapping[str, Member]) -> dict[str, Served]:
    """What is served, by model or adapter. members: by the LLMDeployment's name."""
    routed = {route.model: route for route in routes}
    shares = _shares(routed.values(), members)
    served = {}
    for model in dict.fromkeys((*shares, *routed)):
        named = routed[model].fallbacks if model in routed else ()
        answering = [name for name in (model, *named) if name in shares]
        if answering:
            served[model] = Served(shares[answering[0]], tuple(answering[1:]))
    return served


def contested(members: Mapping[str, Member]) -> Iterator[str]:
    """Adapters that are not served, since a model has their name: a sentence each."""
    models = {member.model: deployment for deployment, member in members.items()}
    for deployment, member in members.items():
        for name in member.adapters:
            if name in models:
                whose = f"LLMDeployment {models[name]} serves its model under that name"
                yield f"Adapter {name} of LLMDeployment {deployment} is not served: {whose}. Rename one of the two."


def unresolved(routes: Iterable[Route], members: Mapping[str, Member]) -> Iterator[str]:
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
    busy = {(share.deployment, share.adapter) for answering in shares.values() for share in answering}
    models = {member.model for member in members.values()}
    for deployment, member in members.items():
        if deployment not in {name for name, _ in busy}:
            yield f"LLMDeployment {deployment} gets no requests: the route of its model {member.model} has other targets."
        for name in member.adapters:
            if name not in models and (deployment, name) not in busy:
                yield f"Adapter {name} of LLMDeployment {deployment} gets no requests: the route {name} has other targets."
    yield from contested(members)


def _shares(routes: Iterable[Route], members: Mapping[str, Member]) -> dict[str, tuple[Share, ...]]:
    """What answers for a model itself, before any fallback; models of which nothing is there are left out."""
    shares: dict[str, tuple[Share, ...]] = {}
    for deployment, member in members.items():
        shares[member.model] = (*shares.get(member.model, ()), Share(deployment, 1))
    models = frozenset(shares)
    for deployment, member in members.items():
        for name in dict.fromkeys(member.adapters):
            if name not in models:
                shares[name] = (*shares.get(name, ()), Share(deployment, 1, name))
    for route in routes:
        if route.targets:
            shares[route.model] = tuple(
                Share(target.deployment, target.weight, _adapter(members[target.deployment], route.model))
                for target in route.targets
                if target.deployment in members
            )
    return {model: answering for model, answering in shares.items() if answering}


def _adapter(member: Member, name: str) -> str | None:
    """Its adapter of this name, unless that is what its model is called."""
    return name if name in member.adapters and name != member.model else None
