"""One LLMDeployment as one row of the fleet, from its object alone. Pure."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from tokenfleet.api.conditions import MODEL_FITS, READY
from tokenfleet.cli.status.words import Json, condition, shown, since


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """None: not known, or not meant for this one."""

    namespace: str
    name: str
    model: str
    accelerator: str
    ready_replicas: int | None
    replicas: int | None
    """Wanted."""
    desired: int | None
    """By autoscaling."""
    queue_depth: int | None
    in_flight: int | None
    hourly: str | None
    currency: str | None
    fits: str | None
    """Of ModelFits: True, False or Unknown."""
    ready: str
    """Of Ready: True, False or Unknown."""
    reason: str
    message: str
    created: str | None

    def as_json(self) -> dict[str, Any]:
        names = {"ready_replicas": "readyReplicas", "queue_depth": "queueDepth", "in_flight": "inFlight"}
        return {names.get(name, name): value for name, value in asdict(self).items() if value is not None}


_UNSEEN = {"status": "Unknown", "reason": "Unseen", "message": "No controller has looked at it yet."}


def row_of(body: Json) -> Row:
    spec, status, metadata = body.get("spec") or {}, body.get("status") or {}, body["metadata"]
    ready = condition(body, READY) or _UNSEEN
    have, _, wanted = str(status.get("ready") or "").partition("/")
    cost, fits = status.get("cost") or {}, condition(body, MODEL_FITS)
    return Row(
        namespace=metadata["namespace"],
        name=metadata["name"],
        model=str((spec.get("model") or {}).get("source", "")),
        accelerator=str(spec.get("accelerator", "")),
        ready_replicas=int(have) if have else None,
        replicas=int(wanted) if wanted else None,
        desired=(status.get("scaling") or {}).get("desired"),
        queue_depth=status.get("queueDepth"),
        in_flight=status.get("inFlight"),
        hourly=cost.get("hourly"),
        currency=cost.get("currency"),
        fits=fits["status"] if fits is not None else None,
        ready=ready["status"],
        reason=ready["reason"],
        message=ready["message"],
        created=metadata.get("creationTimestamp"),
    )


_FITS = {"True": "yes", "False": "no", "Unknown": "?", None: "-"}


def cells(row: Row, now: datetime) -> list[str]:
    """In the order of `COLUMNS`, less the namespace."""
    replicas = f"{shown(row.ready_replicas)}/{shown(row.replicas)}" if row.replicas is not None else "-"
    if row.desired is not None and row.desired != row.replicas:
        replicas += f" →{row.desired}"
    return [
        row.name,
        row.model,
        row.accelerator,
        replicas,
        shown(row.queue_depth),
        shown(row.in_flight),
        f"{row.hourly}{'' if row.currency == 'USD' else ' ' + str(row.currency)}" if row.hourly is not None else "-",
        _FITS.get(row.fits, "?"),
        row.reason,
        since(row.created, now),
    ]


COLUMNS = ("NAME", "MODEL", "ACCELERATOR", "READY", "QUEUE", "IN FLIGHT", "$/H", "FITS", "REASON", "AGE")
