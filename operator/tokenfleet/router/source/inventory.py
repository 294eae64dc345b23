"""What the API server last told of LLMDeployments, their LLMRouter and their pods, put together into the catalog.

Only what changed is touched: most events are of a status, and of no concern here. A spec that this version cannot read (the
CRD may be newer) leaves the terms as they were. What was read stays when the LLMRouter itself is gone: its pods go soon after,
and until then serve on.
"""

import logging
import random
from collections.abc import Mapping
from typing import Final

import msgspec

from tokenfleet import contract
from tokenfleet.planning.sharing import Member, Served, contested, share_out
from tokenfleet.router.balancing.replicas import Replicas, Sighting
from tokenfleet.router.models import Model, Pool
from tokenfleet.router.shared import Shared
from tokenfleet.router.source.cluster_objects import (
    Deployment,
    Engine,
    Pod,
    Route,
    SharedRouter,
    created,
    pod_of,
    served_name,
    sighting,
)
from tokenfleet.router.terms import DEFAULT, Terms

log = logging.getLogger(__name__)

_NONE: Final[tuple[Sighting, ...]] = ()


class _Member(msgspec.Struct, frozen=True):
    """An LLMDeployment that this router serves."""

    name: str
    model: str
    adapters: tuple[str, ...]
    created: int
    engine: Engine
    prefills: bool
    """Some of its replicas only read prompts."""


class _Line(msgspec.Struct, frozen=True):
    """All that a model is made of: equal lines need no update."""

    terms: Terms
    members: tuple[tuple[_Member, int, str | None], ...]
    """With their weights, and the adapter of each that answers."""
    fallbacks: tuple[str, ...]


class Inventory:
    """Of one router: of the LLMDeployment `name`, or of the LLMRouter `name` and all that refer to it."""

    def __init__(self, shared: Shared, name: str, *, is_shared: bool) -> None:
        self._shared = shared
        self._name = name
        self._is_shared = is_shared
        self._terms = DEFAULT
        self._routes: tuple[Route, ...] = ()
        self._members: dict[str, _Member] = {}
        self._sightings: dict[tuple[str, str], tuple[Sighting, ...]] = {}
        """By LLMDeployment and role."""
        self._replicas: dict[tuple[str, str], Replicas] = {}
        self._lines: dict[str, _Line] = {}
        self._contested: frozenset[str] = frozenset()
        """What was told of it."""

    # --- What is told

    def deployments(self, found: list[Deployment]) -> None:
        """All LLMDeployments that may be ours."""
        ours = [one for one in found if self._is_ours(one)]
        for one in ours:
            if not self._is_shared:
                self._read_terms(one.spec.router)
        self._members = {one.metadata.name: _member(one) for one in sorted(ours, key=lambda one: one.metadata.name)}
        self._rebuild()

    def routers(self, found: list[SharedRouter]) -> None:
        """The LLMRouter, where it is there."""
        for one in found:
            self._read_terms(one.spec)
            try:
                self._routes = msgspec.json.decode(one.spec, type=_Routes).routes
            except msgspec.DecodeError as error:
                log.error("the routes of LLMRouter %s cannot be read, those before stay: %s", self._name, error)
            self._rebuild()

    def pods(self, found: list[Pod]) -> None:
        """All pods that may be ours."""
        groups: dict[tuple[str, str], list[Sighting]] = {}
        for pod in found:
            groups.setdefault(pod_of(pod), []).append(sighting(pod))
        before, self._sightings = self._sightings, {key: tuple(group) for key, group in groups.items()}
        for key, replicas in self._replicas.items():
            seen = self._sightings.get(key, _NONE)
            if seen != before.get(key, _NONE):
                replicas.observe(seen)

    # --- What it comes to

    def _is_ours(self, one: Deployment) -> bool:
        if not self._is_shared:
            return one.metadata.name == self._name
        ref = one.spec.router_ref
        return ref is not None and ref.name == self._name and one.metadata.deletion_timestamp is None

    def _read_terms(self, spec: msgspec.Raw) -> None:
        try:
            self._terms = msgspec.json.decode(spec, type=Terms)
        except msgspec.DecodeError as error:
            log.error("the spec of %s cannot be read, the terms before stay: %s", self._name, error)

    def _served(self) -> Mapping[str, Served]:
        members = {member.name: Member(member.model, member.adapters) for member in self._members.values()}
        before, self._contested = self._contested, frozenset(contested(members))
        for sentence in sorted(self._contested - before):
            log.error("%s", sentence)
        return share_out(self._routes, members)

    def _rebuild(self) -> None:
        """Bring the catalog in line."""
        self._shared.adopt(self._terms)
        before, self._lines = self._lines, {name: self._line(one) for name, one in self._served().items()}
        if self._lines == before:
            return
        catalog, models = self._shared.catalog, []
        for name, line in self._lines.items():
            model = catalog.model(name)
            if before.get(name) != line:
                self._update(model, line)
            models.append(model)
        catalog.replace(models)
        self._forget_replicas()

    def _line(self, served: Served) -> _Line:
        members = tuple((self._members[share.deployment], share.weight, share.adapter) for share in served.shares)
        return _Line(_bounded(self._terms, [member.engine for member, _, _ in members]), members, served.fallbacks)

    def _update(self, model: Model, line: _Line) -> None:
        pools = [
            Pool(
                member.name,
                self._replicas_of(member.name, contract.ROLE_ENGINE),
                served_name=adapter or member.model,
                prefill=self._replicas_of(member.name, contract.ROLE_PREFILL) if member.prefills else None,
                weight=weight,
                max_in_flight=member.engine.batching.max_num_seqs,
                max_model_len=member.engine.max_model_len,
                adapter=adapter,
            )
            for member, weight, adapter in line.members
        ]
        created = min(member.created for member, _, _ in line.members)
        first, _, adapter = line.members[0]
        model.update(line.terms, pools, created=created, fallbacks=line.fallbacks, parent=first.model if adapter else None)

    def _replicas_of(self, deployment: str, role: str) -> Replicas:
        key = (deployment, role)
        if (replicas := self._replicas.get(key)) is None:
            clock, optional = self._shared.loop.time, role == contract.ROLE_PREFILL
            replicas = self._replicas[key] = Replicas(turn=random.getrandbits(16), clock=clock, optional=optional)
            replicas.observe(self._sightings.get(key, _NONE))
        return replicas

    def _forget_replicas(self) -> None:
        """Those of LLMDeployments that are not ours any more get nothing new; what runs on them goes on."""
        for key in [key for key in self._replicas if key[0] not in self._members]:
            self._replicas.pop(key).observe(())


class _Routes(msgspec.Struct, frozen=True):
    """Of an LLMRouter's spec."""

    routes: tuple[Route, ...] = ()


def _member(one: Deployment) -> _Member:
    spec = one.spec
    adapters = tuple(adapter.name for adapter in spec.model.adapters)
    return _Member(one.metadata.name, served_name(one), adapters, created(one), spec.engine, spec.disaggregation is not None)


def _bounded(terms: Terms, engines: list[Engine]) -> Terms:
    """An answer is at most as long as an engine of the model can make it, where all of them say how long that is."""
    lengths = [engine.max_model_len for engine in engines if engine.max_model_len is not None]
    if not lengths or len(lengths) < len(engines):
        return terms
    most = min(max(lengths), terms.bounds.max_tokens or max(lengths))
    return msgspec.structs.replace(terms, bounds=msgspec.structs.replace(terms.bounds, max_tokens=most))
