"""What a report says of each LLMDeployment: read off the living objects, as data. Pure but for that.

Levels and counts since the router began, never what changed since the last time: a report that is lost loses nothing. What
several models have in common (adapters) is added up for their LLMDeployment; of a model that several LLMDeployments serve, each
has its share of those who wait, by weight.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from tokenfleet import contract
from tokenfleet.router.balancing.replicas import Replica, Replicas
from tokenfleet.router.models import Model, Pool
from tokenfleet.router.reporting.metrics import FIRST_SECONDS, GAP_SECONDS, Histogram, ModelMetrics, TrackMetrics
from tokenfleet.router.shared import Shared


class Buckets(msgspec.Struct, frozen=True):
    """A histogram: how many fell into each of its buckets, whose bounds contract.py has."""

    sum: float
    counts: list[int]


class TrackLevels(msgspec.Struct, frozen=True, rename="camel"):
    """What became of the requests that the pods of one track had."""

    requests: int
    """That ended with an answer, or with the loss of a replica."""
    failed: int
    """Of these: by the replica's fault."""
    ttft: Buckets
    itl: Buckets
    prompt_tokens: int
    """As far as the answers say what they used."""
    completion_tokens: int


class ReplicaLevels(msgspec.Struct, frozen=True, rename="camel"):
    """One pod."""

    in_flight: int
    """From this router."""
    state: str
    """routable, draining, unready; or ejected: routable, and left alone for a while since it failed."""


class Levels(msgspec.Struct, frozen=True, rename="camel"):
    """Of one LLMDeployment."""

    waiting: int
    pending: int
    """Of the durable queue, not ended, whichever router has them."""
    running: int
    """Of these: held by this router."""
    ended: int
    """Requests that its replicas had, however they ended."""
    replicas: dict[str, ReplicaLevels]
    """By the pod's name."""
    tracks: dict[str, TrackLevels]
    idle_seconds: float | None = None
    """Since there was a request of any kind; None: not since this router began."""

    @property
    def busy(self) -> bool:
        """There is a request right now."""
        return bool(self.waiting or self.pending or any(replica.in_flight for replica in self.replicas.values()))


def read(shared: Shared) -> dict[str, Levels]:
    """Of all LLMDeployments that this router serves, by name."""
    waiting, pending, running = Counter[str](), Counter[str](), Counter[str]()
    pools: dict[str, list[Pool]] = {}
    worker = shared.async_worker
    held = worker.held() if worker is not None else {}
    for model in shared.catalog.models():
        for pool in model.pools:
            pools.setdefault(pool.name, []).append(pool)
        _share_out(waiting, model, max(model.queue.depth, shared.news.wanted(model)))
        if worker is not None:
            _share_out(pending, model, worker.pending.get(model.name, 0))
            _share_out(running, model, held.get(model.name, 0))
    tracks = _by_deployment(shared.metrics.models.values())
    for name in shared.fleet:
        pools.setdefault(name, [])
    return {
        name: Levels(
            waiting=waiting[name],
            pending=pending[name],
            running=running[name],
            ended=sum(track.ended for counted in tracks.get(name, {}).values() for track in counted),
            replicas=_replicas(found, shared.fleet.get(name, ())),
            tracks=_tracks(found, tracks.get(name, {})),
        )
        for name, found in pools.items()
    }


def _share_out(counts: Counter[str], model: Model, count: int) -> None:
    """Add this count of a model's requests to those who serve it, by weight, each share rounded up."""
    if not count:
        return
    total = sum(pool.weight for pool in model.pools)
    weights: Counter[str] = Counter()
    for pool in model.pools:
        weights[pool.name] += pool.weight if total else 1
    total = total or len(model.pools)
    for name, weight in weights.items():
        counts[name] += -(-count * weight // total)


def _by_deployment(models: Iterable[ModelMetrics]) -> dict[str, dict[str, list[TrackMetrics]]]:
    """By LLMDeployment and track, of all models."""
    found: dict[str, dict[str, list[TrackMetrics]]] = {}
    for model in models:
        for (deployment, track), counted in model.tracks.items():
            found.setdefault(deployment, {}).setdefault(track, []).append(counted)
    return found


def _replicas(pools: Iterable[Pool], others: Iterable[Replicas]) -> dict[str, ReplicaLevels]:
    groups = dict.fromkeys(group for pool in pools for group in (pool.replicas, pool.prefill) if group is not None)
    groups.update(dict.fromkeys(others))
    return {one.name: ReplicaLevels(one.in_flight, _state(one)) for group in groups for one in group.all()}


def _state(replica: Replica) -> str:
    return "ejected" if replica.ejected else replica.seen.state.value


def _tracks(pools: Iterable[Pool], counted: dict[str, list[TrackMetrics]]) -> dict[str, TrackLevels]:
    groups: dict[str, dict[Replicas, None]] = {}
    for pool in pools:
        groups.setdefault(pool.track, {})[pool.replicas] = None
    found = {}
    for track in (contract.TRACK_STABLE, contract.TRACK_CANARY):
        parts, lost = counted.get(track, []), sum(group.failures for group in groups.get(track, ()))
        requests = lost + sum(part.answers for part in parts)
        if requests:
            found[track] = TrackLevels(
                requests=requests,
                failed=lost + sum(part.failed for part in parts),
                ttft=_buckets(Histogram.sum_of(FIRST_SECONDS, (part.first_token for part in parts))),
                itl=_buckets(Histogram.sum_of(GAP_SECONDS, (part.gaps for part in parts))),
                prompt_tokens=sum(part.prompt_tokens for part in parts),
                completion_tokens=sum(part.completion_tokens for part in parts),
            )
    return found


def _buckets(histogram: Histogram) -> Buckets:
    return Buckets(round(histogram.sum, 3), histogram.counts)
