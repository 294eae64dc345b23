"""A Kubernetes API of dictionaries, as far as a reconcile needs one, with every write on record and faults on demand."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from tests.controller.objects import NAME, NAMESPACE, NOW, SETTINGS, llm_deployment
from tokenfleet import contract
from tokenfleet.controller import kinds
from tokenfleet.controller.cluster import ClusterError, Stale
from tokenfleet.controller.kinds import POD, Kind
from tokenfleet.controller.observed import Json
from tokenfleet.controller.reconcile import Reconciler, Senses, Turn
from tokenfleet.controller.store import Key, Place, Store, place_of
from tokenfleet.settings import ControllerSettings

KEY: Key = (contract.KIND, NAMESPACE, NAME)
Write = tuple[str, str, str]
"""(verb, kind, name)."""


class World:
    """`watch` is what a real watch does: tell the store how things are."""

    def __init__(self) -> None:
        self.objects: dict[Place, Json] = {}
        self.writes: list[Write] = []
        self.reads: list[Place] = []
        self.before_write: Callable[[Write], None] = lambda _: None
        self.logs: dict[str, str | ClusterError] = {}
        """Of the container that fetches the model, or inspects it, by pod."""
        self.log_reads: list[str] = []
        self.mutate: Callable[[Json], Json] = lambda body: body
        self.unserved: set[str] = {"ScaledObject"}
        """Kinds that this API server does not know."""
        self._version = 100

    def add(self, body: Json, **metadata: Any) -> Json:
        """Put an object there, as somebody else would."""
        body = copy.deepcopy(body)
        self._version += 1
        defaults = {"namespace": NAMESPACE, "uid": f"uid-{self._version}"}
        body["metadata"] = {**defaults, **body["metadata"], **metadata, "resourceVersion": str(self._version)}
        self.objects[place_of(body)] = body
        return body

    def add_deployment(self, **fields: Any) -> Json:
        return self.add(llm_deployment(**fields))

    def edit(self, kind: str, name: str, change: Callable[[Json], object]) -> None:
        body = copy.deepcopy(self.objects[kind, NAMESPACE, name])
        change(body)
        self.add(body)

    def remove(self, kind: str, name: str) -> Json:
        return self.objects.pop((kind, NAMESPACE, name))

    def one(self, kind: str, name: str) -> Json:
        return self.objects[kind, NAMESPACE, name]

    def names(self, kind: str) -> set[str]:
        return {name for each, _, name in self.objects if each == kind}

    def watch(self, store: Store) -> None:
        for body in self.objects.values():
            if body["kind"] in {kind.name for kind in kinds.STORED}:
                store.put(copy.deepcopy(body))

    # What the reconciler calls ---------------------------------------------------------------------------------------

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        self.reads.append((kind.name, namespace, name))
        return copy.deepcopy(self.objects.get((kind.name, namespace, name)))

    async def serves(self, kind: Kind) -> bool:
        return kind.name not in self.unserved

    async def log_tail(self, namespace: str, pod: str, container: str, *, lines: int, limit: int, seconds: float) -> str:
        self.log_reads.append(pod)
        assert namespace == NAMESPACE and container in (contract.CONTAINER_FETCH, contract.CONTAINER_INSPECTION)
        assert lines and limit and seconds < 5
        text = self.logs.get(pod, Stale("no such pod"))
        if isinstance(text, ClusterError):
            raise text
        return text

    async def apply(self, kind: Kind, body: Json, *, uid: str | None) -> Json:
        self._note("apply", kind, body["metadata"]["name"])
        live = self.objects.get((kind.name, body["metadata"]["namespace"], body["metadata"]["name"]))
        if (live["metadata"]["uid"] if live else None) != uid:
            raise Stale("another object")
        return self.add(self.mutate(_merged(live or {}, body)))

    async def apply_status(self, owner: Json, status: Json) -> Json:
        self._note("status", kinds.of(owner["kind"]), owner["metadata"]["name"])
        live = self.objects.get(place_of(owner))
        if live is None or live["metadata"]["uid"] != owner["metadata"]["uid"]:
            raise Stale("another object")
        return self.add({**live, "status": copy.deepcopy(status)})

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str) -> None:
        self._note("delete", kind, name)
        if self.objects[kind.name, namespace, name]["metadata"]["uid"] == uid:
            del self.objects[kind.name, namespace, name]

    async def annotate_pod(self, namespace: str, name: str, annotations: Mapping[str, str | None], *, uid: str) -> Json:
        self._note("annotate", POD, name)
        pod = self._pod(name, uid)
        kept = {key: value for key, value in (pod["metadata"].get("annotations") or {}).items() if key not in annotations}
        said = {key: value for key, value in annotations.items() if value is not None}
        return self.add({**pod, "metadata": {**pod["metadata"], "annotations": {**kept, **said}}})

    async def set_pod_condition(self, namespace: str, name: str, condition: Json, *, uid: str) -> Json:
        self._note("condition", POD, name)
        pod = self._pod(name, uid)
        others = [each for each in pod["status"].get("conditions") or [] if each["type"] != condition["type"]]
        return self.add({**pod, "status": {**pod["status"], "conditions": [*others, condition]}})

    def _pod(self, name: str, uid: str) -> Json:
        pod = self.objects.get((POD.name, NAMESPACE, name))
        if pod is None or pod["metadata"]["uid"] != uid:
            raise Stale("another pod")
        return pod

    async def post_event(self, event: Json) -> None:
        self._note("event", Kind("Event", "", "v1", "events"), event["reason"])

    def _note(self, verb: str, kind: Kind, name: str) -> None:
        self.before_write((verb, kind.name, name))
        self.writes.append((verb, kind.name, name))


class Operator:
    """A reconciler with its store, that sees the world as a watch would show it."""

    def __init__(self, world: World, *, settings: ControllerSettings = SETTINGS, senses: Senses | None = None) -> None:
        self.world, self.store, self.now = world, Store(), NOW
        self.reconciler = Reconciler(self.store, world, settings, senses=senses, now=lambda: self.now)
        self.last = Turn()
        world.watch(self.store)

    async def turn(self, key: Key = KEY, *, seeing: bool = True) -> list[Write]:
        """One reconcile; what it wrote."""
        if seeing:
            self.world.watch(self.store)
        self.world.writes.clear()
        self.last = await self.reconciler.reconcile(key)
        return list(self.world.writes)


def _merged(live: Any, body: Any) -> Any:
    if isinstance(live, dict) and isinstance(body, dict):
        return {**live, **{name: _merged(live.get(name), value) for name, value in body.items()}}
    return copy.deepcopy(body)
