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
from tokenfleet.router.source.cluster_objects import Deployment, Group, Pod, Route, SharedRouter, group_of, sighting
from tokenfleet.router.source.lines import Deployed, Line, deployed, line
from tokenfleet.router.terms import DEFAULT, Terms

log = logging.getLogger(__name__)

_NONE: Final[tuple[Sighting, ...]] = ()


class Inventory:
    """Of one router: of the LLMDeployment `name`, or of the LLMRouter `name` and all that refer to it."""

    def __init__(self, shared: Shared, name: str, *, is_shared: bool) -> None:
        self._shared = shared
        self._name = name
        self._is_shared = is_shared
        self._terms = DEFAULT
        self._routes: tuple[Route, ...] = ()
        self._members: dict[str, Deployed] = {}
        self._sightings: dict[Group, tuple[Sighting, ...]] = {}
        self._replicas: dict[Group, Replicas] = {}
        self._lines: dict[str, Line] = {}
        self._contested: frozenset[str] = frozenset()
        """What was told of it."""

    # --- What is told

    def deployments(self, found: list[Deployment]) -> None:
        """All LLMDeployments that may be ours."""
        ours = [one for one in found if self._is_ours(one)]
        for one in ours:
            if not self._is_shared:
                self._read_terms(one.spec.router)
        self._members = {one.metadata.name: deployed(one) for one in sorted(ours, key=lambda one: one.metadata.name)}
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
        groups: dict[Group, list[Sighting]] = {}
        for pod in found:
            groups.setdefault(group_of(pod), []).append(sighting(pod))
        before, self._sightings = self._sightings, {key: tuple(group) for key, group in groups.items()}
        for key, replicas in self._replicas.items():
            seen = self._sightings.get(key, _NONE)
            if seen != before.get(key, _NONE):
                replicas.observe(seen)
        self._publish()
        if self._sightings != before:
            self._shared.news.stir()
        if any(track == contract.TRACK_CANARY for sighted in (before, groups) for _, _, track in sighted):
            self._rebuild()

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
        lines = {name: line(one, self._terms, self._members, self._sightings) for name, one in self._served().items()}
        before, self._lines = self._lines, lines
        if self._lines == before:
            self._publish()
            return
        catalog, models = self._shared.catalog, []
        for name, made_of in self._lines.items():
            model = catalog.model(name)
            if before.get(name) != made_of:
                self._update(model, made_of)
            models.append(model)
        catalog.replace(models)
        self._forget_replicas()
        self._publish()

    def _publish(self) -> None:
        """All replicas, those too that get no requests: the controller wants to hear of each."""
        for key in self._sightings:
            if key[0] in self._members:
                self._replicas_of(key)
        fleet: dict[str, tuple[Replicas, ...]] = {}
        for (deployment, _, _), replicas in self._replicas.items():
            fleet[deployment] = (*fleet.get(deployment, ()), replicas)
        self._shared.fleet = fleet

    def _update(self, model: Model, made_of: Line) -> None:
        pools = [
            Pool(
                part.deployed.name,
                self._replicas_of((part.deployed.name, contract.ROLE_ENGINE, part.track)),
                served_name=part.adapter or part.deployed.model,
                prefill=self._replicas_of((part.deployed.name, contract.ROLE_PREFILL, part.track)) if part.prefills else None,
                weight=part.weight,
                max_in_flight=part.deployed.engine.batching.max_num_seqs,
                max_model_len=part.deployed.engine.max_model_len,
                adapter=part.adapter,
                track=part.track,
                continues=part.deployed.continues,
            )
            for part in made_of.parts
        ]
        created = min(part.deployed.created for part in made_of.parts)
        first = made_of.parts[0]
        parent = first.deployed.model if first.adapter else None
        model.update(made_of.terms, pools, created=created, fallbacks=made_of.fallbacks, parent=parent)

    def _replicas_of(self, key: Group) -> Replicas:
        if (replicas := self._replicas.get(key)) is None:
            clock, optional = self._shared.loop.time, key[1] == contract.ROLE_PREFILL
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
