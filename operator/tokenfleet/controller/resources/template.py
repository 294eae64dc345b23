"""`spec.podTemplate`: the user's part of a pod, merged last into ours.

Objects are merged key by key, and null removes a key. Lists of named things are merged by their name, as `kubectl` does it;
what can only be one of several (a volume's source, a variable's) is replaced as a whole; tolerations are added; every other
list is replaced. Quantities are brought into the API server's form. What has the wrong shape raises InvalidSpec with its path;
whether a field exists is the API server's to say.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.quantities import MILLI, NANO, canonical_quantity
from tokenfleet.errors import InvalidSpec

_MERGED_BY = {
    "containers": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "readinessGates": "conditionType",
    "resourceClaims": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
}
"""Lists whose items are merged, and the key that names an item."""
_REPLACED_BY = {"env": "name", "volumes": "name"}
"""Lists whose items are replaced by one of the same name, since their fields exclude each other."""
_ADDED = frozenset({"tolerations"})

_QUANTITY_MAPS = frozenset({"limits", "requests", "overhead"})
_QUANTITIES = frozenset({"sizeLimit", "divisor"})


def merge_pod_template(template: Json, *, metadata: Json, spec: Json) -> Json:
    """`template` (metadata and spec of a pod) with the user's metadata and spec merged in. Nothing given: nothing changed."""
    return {
        "metadata": _merge_objects(template["metadata"], _without_empty(metadata), path="spec.podTemplate.metadata"),
        "spec": _merge_objects(template["spec"], _canonical(spec, path="spec.podTemplate.spec"), path="spec.podTemplate.spec"),
    }


def _without_empty(metadata: Json) -> Json:
    return {key: value for key, value in metadata.items() if value}


def _merge_objects(ours: Json, theirs: Json, *, path: str) -> Json:
    merged = dict(ours)
    for key, value in theirs.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_values(key, ours.get(key), value, path=f"{path}.{key}")
    return merged


def _merge_values(key: str, ours: Any, theirs: Any, *, path: str) -> Any:
    if key in _MERGED_BY:
        return _merge_lists(ours or [], theirs, name_key=_MERGED_BY[key], join=_merge_objects, path=path)
    if key in _REPLACED_BY:
        return _merge_lists(ours or [], theirs, name_key=_REPLACED_BY[key], join=_take_theirs, path=path)
    if key in _ADDED:
        return [*(ours or []), *(item for item in _items(theirs, path=path) if item not in (ours or []))]
    if isinstance(theirs, dict):
        return _merge_objects(ours if isinstance(ours, dict) else {}, theirs, path=path)
    if isinstance(ours, dict):
        raise InvalidSpec(f"{path}: must be an object (given: {theirs!r})")
    return theirs


def _take_theirs(_: Json, theirs: Json, *, path: str) -> Json:
    return _merge_objects({}, theirs, path=path)


def _merge_lists(ours: list[Json], theirs: Any, *, name_key: str, join: Callable[..., Json], path: str) -> list[Json]:
    """Ours in our order, each joined with theirs of the same name; then what only they have, in their order."""
    merged = {item[name_key]: item for item in ours}
    seen = set()
    for number, item in enumerate(_items(theirs, path=path)):
        here = f"{path}[{number}]"
        name = item.get(name_key)
        if not isinstance(name, str | int):
            raise InvalidSpec(f"{here}.{name_key}: required, since the items of this list are merged by it")
        if name in seen:
            raise InvalidSpec(f"{here}.{name_key}: {name!r} stands in the list twice; join the two items")
        seen.add(name)
        merged[name] = join(merged.get(name, {}), item, path=here)
    return list(merged.values())


def _items(value: Any, *, path: str) -> list[Json]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidSpec(f"{path}: must be a list of objects")
    return value


def _canonical(node: Any, *, path: str) -> Any:
    """`node` with every quantity in the API server's form."""
    if isinstance(node, list):
        return [_canonical(item, path=f"{path}[{number}]") for number, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    return {key: _canonical_field(key, value, path=f"{path}.{key}") for key, value in node.items()}


def _canonical_field(key: str, value: Any, *, path: str) -> Any:
    if key in _QUANTITY_MAPS and isinstance(value, Mapping):
        return {name: _quantity(item, path=f"{path}.{name}", finest=MILLI) for name, item in value.items()}
    if key in _QUANTITIES:
        return _quantity(value, path=path, finest=NANO)
    return _canonical(value, path=path)


def _quantity(value: Any, *, path: str, finest: Decimal) -> str | None:
    if value is None:
        return None
    try:
        return canonical_quantity(value, finest=finest)
    except ValueError as error:
        raise InvalidSpec(f"{path}: {error}") from error
