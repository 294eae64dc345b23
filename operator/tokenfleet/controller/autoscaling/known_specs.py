"""The specs of LLMDeployments, read off the store and parsed once a generation: autoscaling asks for them each second."""

from dataclasses import dataclass

from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, parse_spec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.store import Key, Store
from tokenfleet.errors import InvalidSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An LLMDeployment."""

    versions: tuple[int | None, int | None]
    """Of the object, and of the LLMRouter that it names."""
    uid: str
    generation: int
    spec: LLMDeploymentSpec | None
    """None: it cannot be run."""
    scaling: Json
    """status.scaling; {} where there is none."""
    router_max_in_flight: int | None
    """Of the LLMRouter that it names."""


class KnownSpecs:
    """Of all LLMDeployments that were asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Key, Known] = {}

    def of(self, key: Key) -> Known | None:
        """As it is now; None where it is not there, or is being deleted."""
        router = self._store.router_of(key)
        versions = self._store.version(key), self._store.version(router) if router is not None else None
        known = self._known.get(key)
        if known is not None and known.versions == versions:
            return known
        owner = self._store.get(key)
        if owner is None or "deletionTimestamp" in owner["metadata"]:
            self._known.pop(key, None)
            return None
        found = self._known[key] = self._read(owner, versions, router, known)
        return found

    def slots(self, key: Key) -> int | None:
        """How many requests an engine of it works on at once, where its spec says so."""
        known = self.of(key)
        return known.spec.engine.batching.max_num_seqs if known is not None and known.spec is not None else None

    def _read(self, owner: Json, versions: tuple[int | None, int | None], router: Key | None, before: Known | None) -> Known:
        metadata = owner["metadata"]
        place = (metadata["uid"], metadata["generation"])
        same = before is not None and place == (before.uid, before.generation)
        return Known(
            versions=versions,
            uid=metadata["uid"],
            generation=metadata["generation"],
            spec=before.spec if same and before is not None else _parsed(owner),
            scaling=(owner.get("status") or {}).get("scaling") or {},
            router_max_in_flight=self._max_in_flight(router),
        )

    def _max_in_flight(self, router: Key | None) -> int | None:
        found = ((self._store.get(router) or {}).get("spec") or {}).get("maxInFlight") if router is not None else None
        return found if isinstance(found, int) else None


def _parsed(owner: Json) -> LLMDeploymentSpec | None:
    try:
        return parse_spec(owner["metadata"]["name"], owner.get("spec"))
    except InvalidSpec:
        return None
