"""What a model is made of: the LLMDeployments that answer for it, each by its stable pods and its canary's, by weight. Pure.

Lines are compared: equal ones need no update of the catalog.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tokenfleet import contract
from tokenfleet.planning.sharing import Served, Share
from tokenfleet.router.balancing.replicas import Sighting, State
from tokenfleet.router.source.cluster_objects import Deployment, Engine, Group, created, served_name
from tokenfleet.router.terms import Terms

Sightings = Mapping[Group, Sequence[Sighting]]


class Deployed(msgspec.Struct, frozen=True):
    """An LLMDeployment that this router serves."""

    name: str
    model: str
    adapters: tuple[str, ...]
    created: int
    engine: Engine
    prefills: bool
    """Some of its replicas only read prompts."""
    continues: bool
    """Its streams outlive their replicas."""
    canary_weight: int
    """Of its requests, in percent, while it has canary pods."""


class Part(msgspec.Struct, frozen=True):
    """What one pool is made of."""

    deployed: Deployed
    weight: int
    adapter: str | None
    """That answers."""
    track: str
    prefills: bool


class Line(msgspec.Struct, frozen=True):
    """All that a model is made of."""

    terms: Terms
    parts: tuple[Part, ...]
    fallbacks: tuple[str, ...]


def deployed(one: Deployment) -> Deployed:
    """What there is to know of it."""
    spec = one.spec
    rollout = one.status.rollout if one.status is not None else None
    return Deployed(
        name=one.metadata.name,
        model=served_name(one),
        adapters=tuple(adapter.name for adapter in spec.model.adapters),
        created=created(one),
        engine=spec.engine,
        prefills=spec.disaggregation is not None,
        continues=spec.continue_streams,
        canary_weight=min(100, max(0, rollout.weight)) if rollout is not None else 0,
    )


def line(served: Served, terms: Terms, members: Mapping[str, Deployed], sightings: Sightings) -> Line:
    """Of one model."""
    shares = [(share, members[share.deployment]) for share in served.shares]
    whole = 100 if any(_percent(member, sightings) for _, member in shares) else 1
    parts = tuple(part for share, member in shares for part in _parts(share, member, sightings, whole=whole))
    return Line(_bounded(terms, [part.deployed.engine for part in parts]), parts, served.fallbacks)


def _parts(share: Share, member: Deployed, sightings: Sightings, *, whole: int) -> Iterator[Part]:
    """The stable pods and, while there are any, the canary's, which have their part of the share.

    A canary without a weight is not on trial yet, or no more: it answers only where nobody else could.
    """
    percent = _percent(member, sightings)
    yield Part(member, share.weight * (whole - percent), share.adapter, contract.TRACK_STABLE, member.prefills)
    stable = sightings.get((member.name, contract.ROLE_ENGINE, contract.TRACK_STABLE), ())
    if percent or (_has_canary(member, sightings) and not any(one.state is State.ROUTABLE for one in stable)):
        prefills = member.prefills and (member.name, contract.ROLE_PREFILL, contract.TRACK_CANARY) in sightings
        yield Part(member, share.weight * percent, share.adapter, contract.TRACK_CANARY, prefills)


def _percent(member: Deployed, sightings: Sightings) -> int:
    """Of its requests, for the canary; 0 while there is no such pod."""
    return member.canary_weight if _has_canary(member, sightings) else 0


def _has_canary(member: Deployed, sightings: Sightings) -> bool:
    return (member.name, contract.ROLE_ENGINE, contract.TRACK_CANARY) in sightings


def _bounded(terms: Terms, engines: list[Engine]) -> Terms:
    """An answer is at most as long as an engine of the model can make it, where all of them say how long that is."""
    lengths = [engine.max_model_len for engine in engines if engine.max_model_len is not None]
    if not lengths or len(lengths) < len(engines):
        return terms
    most = min(max(lengths), terms.bounds.max_tokens or max(lengths))
    return msgspec.structs.replace(terms, bounds=msgspec.structs.replace(terms.bounds, max_tokens=most))
