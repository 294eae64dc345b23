"""What a cluster has of an object that is planned: itself, its children and pods; and what the API server says to applying it.

Applied is a dry run alone: the API server fills in its defaults, and its admission says what it would say. What may not be read
is told, and left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.cli.cluster.connection import Cluster, Missing, Thing
from tokenfleet.cli.errors import CliError, Conflict, Unreachable
from tokenfleet.cli.plan.manifests import Manifest
from tokenfleet.controller import kinds
from tokenfleet.controller.kinds import Kind
from tokenfleet.controller.observed import ChildKey, Observed, router_ref

Json = dict[str, Any]

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_APPLY: Final = "application/apply-patch+yaml"
_MANAGER: Final = "kubectl"
_PASSING: Final = ("Job",)
"""Kinds of children that run once, for the controller's own sake."""
NEW_UID: Final = "00000000-0000-0000-0000-000000000000"
"""Of an owner that is not there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What was read."""

    before: Json | None
    """The owner as it is."""
    after: Json
    """As it would be."""
    children: Mapping[ChildKey, Json]
    pods: tuple[Json, ...] = ()
    router: Json | None = None
    untold: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    """Why the API server would not take it, in sentences."""

    @property
    def observed(self) -> Observed:
        """With the owner as it would be."""
        return Observed(owner=self.after, children=self.children, pods=self.pods, router=self.router)


@dataclass(slots=True)
class _Reader:
    cluster: Cluster
    untold: list[str] = field(default_factory=list)

    def items(self, kind: Kind, selector: str) -> list[Json]:
        thing = Thing(f"the {kind.plural} of the namespace {self.cluster.namespace}", rights=f"list {_resource(kind)}")
        try:
            found = self.cluster.read(kind.path(self.cluster.namespace), thing, labelSelector=selector)
        except Unreachable:
            raise
        except CliError as error:
            self.untold.append(f"{error} They are taken to be new.")
            return []
        return [{**item, "apiVersion": kind.api_version, "kind": kind.name} for item in found["items"]]

    def one(self, kind: Kind, name: str) -> Json | None:
        thing = Thing(f"the {kind.name} {self.cluster.namespace}/{name}", rights=f"get {_resource(kind)}")
        try:
            return self.cluster.read(kind.path(self.cluster.namespace, name), thing)
        except Unreachable:
            raise
        except Missing:
            return None
        except CliError:  # What may not be listed has been told already.
            return None


def offline(manifest: Manifest, *, namespace: str) -> Live:
    """As in an empty cluster."""
    return Live(before=None, after=_owner(manifest, namespace, None), children={})


def knows_us(cluster: Cluster) -> bool:
    """Whether the cluster has our kinds."""
    thing = Thing(f"the API {contract.API_VERSION}", rights=f"get {contract.PLURAL}.{contract.GROUP}")
    try:
        cluster.read(f"/apis/{contract.API_VERSION}", thing)
    except Missing:
        return False
    return True


def read_live(cluster: Cluster, manifest: Manifest) -> Live:
    """Raises Unreachable where nobody answers."""
    reader = _Reader(cluster)
    kind = kinds.of(manifest.kind)
    before = reader.one(kind, manifest.name)
    after, refusals = _dry_run(cluster, manifest, before)
    after = after or _owner(manifest, cluster.namespace, before)
    selector = f"{contract.OWNER_LABELS[manifest.kind]}={manifest.name}"
    listed = [(each.name, one) for each in kinds.CHILDREN if each.name not in _PASSING for one in reader.items(each, selector)]
    children = {(name, one["metadata"]["name"]): one for name, one in listed}
    pods = tuple(reader.items(kinds.POD, selector)) if before is not None else ()
    shared = router_ref(after)
    return Live(
        before=before,
        after=after,
        children=children,
        pods=pods,
        router=reader.one(kinds.LLM_ROUTER, shared) if shared else None,
        untold=tuple(reader.untold),
        refusals=refusals,
    )


def strangers(cluster: Cluster, wanted: list[Json], known: Mapping[ChildKey, Json]) -> dict[ChildKey, Json]:
    """Objects at the names of children to come that do not carry our label."""
    reader, found = _Reader(cluster), {}
    for child in wanted:
        key = child["kind"], child["metadata"]["name"]
        if key not in known and (live := reader.one(kinds.of(key[0]), key[1])) is not None:
            found[key] = {**live, "kind": key[0]}
    return found


def _dry_run(cluster: Cluster, manifest: Manifest, before: Json | None) -> tuple[Json | None, tuple[str, ...]]:
    """The object as the API server would keep it, or why it would not."""
    from kubernetes import client

    kind, name = kinds.of(manifest.kind), manifest.name
    api = client.CustomObjectsApi(cluster.api_client)
    where = (kind.group, kind.version, cluster.namespace, kind.plural)
    thing = Thing(f"the {kind.name} {cluster.namespace}/{name}", rights=f"create and patch {_resource(kind)}")
    options: dict[str, Any] = {"dry_run": "All", "field_manager": _MANAGER}
    body = _body(manifest, cluster.namespace)
    try:
        if before is None:
            return dict(cluster.call("create", thing, api.create_namespaced_custom_object, *where, body, **options)), ()
        if _LAST_APPLIED in (before["metadata"].get("annotations") or {}):
            whole = merged(before, body)
            return dict(cluster.call("change", thing, api.replace_namespaced_custom_object, *where, name, whole, **options)), ()
        apply = api.patch_namespaced_custom_object
        found = cluster.call("change", thing, apply, *where, name, body, force=True, _content_type=_APPLY, **options)
        return dict(found), ()
    except (Unreachable, Conflict):
        raise
    except Missing:
        return None, (f"There is no namespace {cluster.namespace} in this cluster: create it first.",)
    except CliError as error:
        return None, (str(error),)


def merged(before: Json, body: Json) -> Json:
    """As `kubectl apply` merges on the client's side: what was applied last and is not any more goes; what others set stays."""
    last = json.loads(before["metadata"]["annotations"][_LAST_APPLIED])
    metadata = dict(before["metadata"])
    metadata.pop("managedFields", None)
    for part in ("labels", "annotations"):
        here, then = (each.get("metadata", {}).get(part) or {} for each in (last, body))
        metadata[part] = _merge(metadata.get(part) or {}, here, then)
    return {**before, "metadata": metadata, "spec": _merge(before.get("spec") or {}, last.get("spec") or {}, body["spec"])}


def _merge(live: Any, last: Any, wanted: Any) -> Any:
    if not isinstance(live, dict) or not isinstance(wanted, dict):
        return wanted
    last = last if isinstance(last, dict) else {}
    kept = {key: value for key, value in live.items() if key in wanted or key not in last}
    return kept | {key: _merge(live.get(key), last.get(key), value) for key, value in wanted.items()}


def _body(manifest: Manifest, namespace: str) -> Json:
    return {**manifest.body, "metadata": {**manifest.body["metadata"], "namespace": namespace}}


def _owner(manifest: Manifest, namespace: str, before: Json | None) -> Json:
    """Where no API server says what becomes of it: as it is written."""
    body = _body(manifest, namespace)
    there = (before or {}).get("metadata") or {}
    metadata = {"uid": there.get("uid", NEW_UID), "generation": there.get("generation", 1), **body["metadata"]}
    return {**body, "metadata": metadata, "status": (before or {}).get("status") or {}}


def _resource(kind: Kind) -> str:
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural
