"""What the API server last told about every LLMDeployment, its children and its pods: `observe` makes one snapshot of it.

Watch events, listings and the answers to our own writes all come in by `put`, so that a reconcile sees what the one before
it wrote, and the watch's echo of it changes nothing. Bodies are kept as compact JSON without managedFields: a third of the
memory that parsed ones take, and no one can change them by accident. This module never reads the API.

Resource versions are compared as numbers, which Kubernetes guarantees since 1.35 and etcd always had.
"""

import json
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tokenfleet import contract
from tokenfleet.controller.kinds import LLM_DEPLOYMENT, POD
from tokenfleet.controller.observed import Json, Observed

Key = tuple[str, str]
"""(namespace, name) of an LLMDeployment."""

Place = tuple[str, str, str]
"""(kind, namespace, name) of any object."""

_BURIED = 4096
"""How many removed objects are remembered, so that an answer that arrives after the removal does not bring them back."""


@dataclass(slots=True)
class _Entry:
    key: Key
    uid: str
    version: int
    body: bytes
    listed: bool = False
    """Whether the watch has listed it: a second time means that the watch began anew."""


def place_of(body: Json) -> Place:
    metadata = body["metadata"]
    return sys.intern(body["kind"]), sys.intern(metadata["namespace"]), sys.intern(metadata["name"])


def key_of(body: Json) -> Key | None:
    """The LLMDeployment that an object is or, by its label, belongs to."""
    metadata = body["metadata"]
    if body["kind"] == LLM_DEPLOYMENT.name:
        return sys.intern(metadata["namespace"]), sys.intern(metadata["name"])
    owner = (metadata.get("labels") or {}).get(contract.LABEL_DEPLOYMENT)
    return (sys.intern(metadata["namespace"]), sys.intern(owner)) if owner else None


def version_of(body: Json) -> int:
    return int(body["metadata"]["resourceVersion"])


class Store:
    """The mirror. All methods are synchronous, so each is one step to everybody else."""

    def __init__(self) -> None:
        self._entries: dict[Place, _Entry] = {}
        self._members: dict[Key, dict[Place, None]] = {}
        self._buried: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, place: Place) -> bool:
        return place in self._entries

    def deployments(self) -> list[Key]:
        """Every LLMDeployment that there is."""
        return [entry.key for (kind, _, _), entry in self._entries.items() if kind == LLM_DEPLOYMENT.name]

    def put(self, body: Json) -> tuple[Key, ...]:
        """Take in an object as it is now; returns whom that concerns: nobody, where it is old news."""
        key, place, uid, version = key_of(body), place_of(body), body["metadata"]["uid"], version_of(body)
        old = self._entries.get(place)
        if version <= self._buried.get(uid, -1) or (old is not None and version <= old.version):
            return ()
        if key is None:
            return self._drop(place)
        concerned = self._drop(place) if old is not None and old.key != key else ()
        listed = old is not None and old.uid == uid and old.listed
        self._entries[place] = _Entry(key, uid, version, _encode(body), listed)
        self._members.setdefault(key, {})[place] = None
        return (key, *concerned)

    def remove(self, body: Json) -> tuple[Key, ...]:
        """An object is gone, or has lost our label; returns whom that concerns."""
        place, uid, version = place_of(body), body["metadata"]["uid"], version_of(body)
        self._bury(uid, version)
        old = self._entries.get(place)
        return self._drop(place) if old is not None and (old.uid == uid or old.version < version) else ()

    def forget(self, place: Place) -> tuple[Key, ...]:
        """The API server says that there is no such object."""
        entry = self._entries.get(place)
        if entry is None:
            return ()
        self._bury(entry.uid, entry.version)
        return self._drop(place)

    def mark_listed(self, body: Json) -> bool:
        """Note that the watch listed this object; True where it had done so before, so it may have missed removals since."""
        entry = self._entries.get(place_of(body))
        if entry is None or entry.uid != body["metadata"]["uid"]:
            return False
        again, entry.listed = entry.listed, True
        return again

    def forget_unlisted(self, kind: str, found: Iterable[Place], *, namespace: str | None, version: int) -> tuple[Key, ...]:
        """Remove what a whole listing of a kind, as of `version`, did not find; what is newer than the listing stays."""
        present = set(found)
        gone = [
            place
            for place, entry in self._entries.items()
            if place[0] == kind
            and place not in present
            and entry.version <= version
            and (namespace is None or place[1] == namespace)
        ]
        return tuple(key for place in gone for key in self.forget(place))

    def observe(self, key: Key) -> Observed | None:
        """A snapshot of the LLMDeployment `key`; None where there is none."""
        deployment = self._entries.get((LLM_DEPLOYMENT.name, *key))
        if deployment is None:
            return None
        children = {}
        pods = []
        for kind, name, entry in self._members_of(key):
            if kind == POD.name:
                pods.append(json.loads(entry.body))
            elif kind != LLM_DEPLOYMENT.name:
                children[kind, name] = json.loads(entry.body)
        return Observed(deployment=json.loads(deployment.body), children=children, pods=tuple(pods))

    def _members_of(self, key: Key) -> Iterator[tuple[str, str, _Entry]]:
        for place in self._members.get(key, ()):
            yield place[0], place[2], self._entries[place]

    def _bury(self, uid: str, version: int) -> None:
        self._buried[uid] = max(version, self._buried.pop(uid, 0))
        while len(self._buried) > _BURIED:
            self._buried.popitem(last=False)

    def _drop(self, place: Place) -> tuple[Key, ...]:
        entry = self._entries.pop(place, None)
        if entry is None:
            return ()
        members = self._members[entry.key]
        del members[place]
        if not members:
            del self._members[entry.key]
        return (entry.key,)


def _encode(body: Json) -> bytes:
    metadata = body["metadata"]
    if "managedFields" in metadata:
        body = {**body, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
