"""What the API server last told about every LLMDeployment and LLMRouter, their children and pods: `observe` makes one snapshot.

Watch events, listings and the answers to our own writes all come in by `put`, so that a reconcile sees what the one before
it wrote, and the watch's echo of it changes nothing. Bodies are kept as compact JSON without managedFields: a third of the
memory that parsed ones take, and no one can change them by accident. A change of an LLMRouter concerns the LLMDeployments that
name it, and the other way round. This module never reads the API.

Resource versions are compared as numbers, which Kubernetes guarantees since 1.35 and etcd always had.
"""

import json
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tokenfleet import contract
from tokenfleet.controller.kinds import LLM_DEPLOYMENT, LLM_ROUTER, OWNERS, POD, Kind
from tokenfleet.controller.observed import Json, Observed, router_ref

Place = tuple[str, str, str]
"""(kind, namespace, name) of any object."""

Key = Place
"""Of an LLMDeployment or LLMRouter."""

Listener = Callable[[Place, Key], None]

_OWNERS = frozenset(kind.name for kind in OWNERS)

_BURIED = 4096
"""How many removed objects are remembered, so that an answer that arrives after the removal does not bring them back."""


@dataclass(slots=True)
class _Entry:
    key: Key
    uid: str
    version: int
    body: bytes
    router: Key | None = None
    """Of an LLMDeployment: the LLMRouter that it names."""
    role: str = ""
    """By its label."""
    listed: bool = False
    """Whether the watch has listed it: a second time means that the watch began anew."""


def place_of(body: Json) -> Place:
    metadata = body["metadata"]
    return sys.intern(body["kind"]), sys.intern(metadata["namespace"]), sys.intern(metadata["name"])


def key_of(body: Json) -> Key | None:
    """The LLMDeployment or LLMRouter that an object is or, by its label, belongs to."""
    if body["kind"] in _OWNERS:
        return place_of(body)
    labels, namespace = body["metadata"].get("labels") or {}, sys.intern(body["metadata"]["namespace"])
    for kind, label in contract.OWNER_LABELS.items():
        if owner := labels.get(label):
            return kind, namespace, sys.intern(owner)
    return None


def _router_of(body: Json) -> Key | None:
    """The LLMRouter that an LLMDeployment names."""
    name = router_ref(body) if body["kind"] == LLM_DEPLOYMENT.name else None
    return (LLM_ROUTER.name, sys.intern(body["metadata"]["namespace"]), sys.intern(name)) if name else None


def version_of(body: Json) -> int:
    return int(body["metadata"]["resourceVersion"])


class Store:
    """The mirror. All methods are synchronous, so each is one step to everybody else."""

    def __init__(self) -> None:
        self._entries: dict[Place, _Entry] = {}
        self._belongings: dict[Key, dict[Place, None]] = {}
        self._named_by: dict[Key, dict[Key, None]] = {}
        """The LLMDeployments that name an LLMRouter, whether that is there or not."""
        self._buried: OrderedDict[str, int] = OrderedDict()
        self._listeners: tuple[Listener, ...] = ()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, place: Place) -> bool:
        return place in self._entries

    def owners(self) -> list[Key]:
        """Every LLMDeployment and LLMRouter that there is."""
        return [place for place in self._entries if place[0] in _OWNERS]

    def count(self, kind: Kind) -> int:
        return sum(place[0] == kind.name for place in self._entries)

    def put(self, body: Json) -> tuple[Key, ...]:
        """Take in an object as it is now; returns whom that concerns: nobody, where it is old news."""
        key, place, uid, version = key_of(body), place_of(body), body["metadata"]["uid"], version_of(body)
        old = self._entries.get(place)
        if version <= self._buried.get(uid, -1) or (old is not None and version <= old.version):
            return ()
        if key is None:
            return self._drop(place)
        router = _router_of(body)
        moved = old is not None and (old.key, old.router) != (key, router)
        before = self._drop(place) if moved else ()
        listed = old is not None and old.uid == uid and old.listed
        role = sys.intern((body["metadata"].get("labels") or {}).get(contract.LABEL_ROLE, ""))
        self._entries[place] = _Entry(key, uid, version, _encode(body), router, role, listed)
        self._belongings.setdefault(key, {})[place] = None
        if router is not None:
            self._named_by.setdefault(router, {})[place] = None
        self._tell(place, key)
        return tuple(dict.fromkeys((*self._concerned(place, key, router), *before)))

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

    def listen(self, listener: Listener) -> None:
        """Tell it of every object that comes, changes or goes from now on, and whose it is."""
        self._listeners += (listener,)

    def version(self, place: Place) -> int | None:
        """Of an object, as last seen; None where there is none."""
        entry = self._entries.get(place)
        return entry.version if entry is not None else None

    def get(self, place: Place) -> Json | None:
        """One object."""
        entry = self._entries.get(place)
        if entry is None:
            return None
        body: Json = json.loads(entry.body)
        return body

    def pods(self, key: Key, *, role: str) -> list[Json]:
        """An owner's pods of one role."""
        return [
            json.loads(entry.body) for kind, _, entry in self._belongings_of(key) if kind == POD.name and entry.role == role
        ]

    def owners_on(self, node: str) -> tuple[Key, ...]:
        """Whoever has pods on a node."""
        place = f'"nodeName":{json.dumps(node)}'.encode()
        return tuple(
            {entry.key: None for (kind, _, _), entry in self._entries.items() if kind == POD.name and place in entry.body}
        )

    def router_of(self, key: Key) -> Key | None:
        """The LLMRouter that an LLMDeployment names, whether that is there or not."""
        entry = self._entries.get(key)
        return entry.router if entry is not None else None

    def observe(self, key: Key) -> Observed | None:
        """A snapshot of the LLMDeployment or LLMRouter `key`; None where there is none."""
        owner = self._entries.get(key)
        if owner is None:
            return None
        children = {}
        pods = []
        for kind, name, entry in self._belongings_of(key):
            if kind == POD.name:
                pods.append(json.loads(entry.body))
            elif kind not in _OWNERS:
                children[kind, name] = json.loads(entry.body)
        router = self._entries.get(owner.router) if owner.router else None
        return Observed(
            owner=json.loads(owner.body),
            children=children,
            pods=tuple(pods),
            router=json.loads(router.body) if router else None,
            members=tuple(json.loads(self._entries[place].body) for place in sorted(self._named_by.get(key, ()))),
        )

    def _belongings_of(self, key: Key) -> Iterator[tuple[str, str, _Entry]]:
        for place in self._belongings.get(key, ()):
            yield place[0], place[2], self._entries[place]

    def _concerned(self, place: Place, key: Key, router: Key | None) -> tuple[Key, ...]:
        """Whom a change of the object at `place` concerns: its owner, and whoever shares a router with it."""
        others = (router,) if router is not None else self._named_by.get(place, ())
        return (key, *others)

    def _tell(self, place: Place, key: Key) -> None:
        for listener in self._listeners:
            listener(place, key)

    def _bury(self, uid: str, version: int) -> None:
        self._buried[uid] = max(version, self._buried.pop(uid, 0))
        while len(self._buried) > _BURIED:
            self._buried.popitem(last=False)

    def _drop(self, place: Place) -> tuple[Key, ...]:
        entry = self._entries.pop(place, None)
        if entry is None:
            return ()
        _discard(self._belongings, entry.key, place)
        if entry.router is not None:
            _discard(self._named_by, entry.router, place)
        self._tell(place, entry.key)
        return self._concerned(place, entry.key, entry.router)


def _discard(groups: dict[Key, dict[Place, None]], key: Key, place: Place) -> None:
    del groups[key][place]
    if not groups[key]:
        del groups[key]


def _encode(body: Json) -> bytes:
    metadata = body["metadata"]
    if "managedFields" in metadata:
        body = {**body, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
