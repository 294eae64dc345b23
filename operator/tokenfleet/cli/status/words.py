"""Ages, counts and states as people read them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Json = dict[str, Any]


def span(seconds: float) -> str:
    """As kubectl has ages: 45s, 18m, 5h, 3d."""
    whole = max(0, round(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= 2 * size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def since(moment: str | None, now: datetime) -> str:
    return "-" if moment is None else span((now - datetime.fromisoformat(moment)).total_seconds())


def condition(body: Mapping[str, Any], kind: str) -> Json | None:
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((dict(one) for one in conditions if one["type"] == kind), None)


def shown(value: object) -> str:
    """A value of a table; - for none."""
    return "-" if value is None else str(value)
