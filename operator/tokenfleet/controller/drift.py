"""Whether an object still is what we applied: the hash of what we want, and the comparison with what is there.

Only what we send is compared, so what others add (another annotation, a sidecar, a node port) is theirs. Lists follow the
API server's merge keys where items have them, and are compared item by item where not. A value that we set to nothing
(false, 0, "", {}) may be absent from what is there: the API server leaves such fields out.
"""

import hashlib
import json
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.controller.observed import Json

_ITEM_KEYS: Final = ("name", "mountPath", "devicePath", "containerPort", "port", "topologyKey", "ip", "uid", "type")
"""What names an item of a list that the API server merges; the first that all items carry, differently, is taken."""


def digest(value: Any) -> str:
    """The same for equal JSON, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def stamped(child: Json) -> Json:
    """The child with the annotation that says what of it we applied."""
    annotations = {**child["metadata"].get("annotations", {}), contract.ANNOTATION_APPLIED_HASH: digest(child)}
    return {**child, "metadata": {**child["metadata"], "annotations": annotations}}


_WHOLE: Final = frozenset({"subjects"})
"""Lists with names in which nobody else may add: one more subject of a RoleBinding is drift."""
_MISSING: Final = object()


def covers(live: Any, wanted: Any, *, field: str = "") -> bool:
    """Whether all that is wanted is there."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            covers(live[key], value, field=key) if key in live else not value for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and all(
            item is not _MISSING and covers(item, value) for item, value in _paired(live, wanted, field=field)
        )
    return type(live) is type(wanted) and bool(live == wanted)


def projected(live: Any, wanted: Any, *, field: str = "") -> Any:
    """What is there in the places that are wanted: what the API server, or an admission webhook, made of what we sent."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return {key: projected(live[key], value, field=key) for key, value in wanted.items() if key in live}
    if isinstance(wanted, list) and isinstance(live, list):
        pairs = _paired(live, wanted, field=field)
        return [None if item is _MISSING else projected(item, value) for item, value in pairs]
    return live


def _paired(live: list[Any], wanted: list[Any], *, field: str) -> list[tuple[Any, Any]]:
    """Each wanted item with the one that stands for it; without merge keys, another length pairs with nothing."""
    if field not in _WHOLE and (name := _item_key(wanted)) is not None:
        there = {item.get(name): item for item in live if isinstance(item, dict)}
        return [(there.get(item[name], _MISSING), item) for item in wanted]
    if len(live) != len(wanted):
        return [(_MISSING, item) for item in (wanted or [None])]
    return list(zip(live, wanted, strict=True))


def _item_key(items: list[Any]) -> str | None:
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    for name in _ITEM_KEYS:
        values = [item.get(name) for item in items]
        if None not in values and all(isinstance(value, str | int) for value in values) and len(set(values)) == len(items):
            return name
    return None
