"""What the router knows of its models and replicas at this moment: as data, and as a page for people that refreshes itself.

Pure but for reading the living objects. The page needs nothing from elsewhere: no script, no style sheet, no font.
"""

from html import escape
from typing import Final

import msgspec

from tokenfleet.router.balancing.replicas import Replica
from tokenfleet.router.callers.keys import Priority
from tokenfleet.router.models import Model, Pool
from tokenfleet.router.shared import Shared


class ReplicaView(msgspec.Struct, frozen=True, rename="camel"):
    """One engine."""

    name: str
    address: str
    deployment: str
    role: str
    """prefill, in a disaggregated deployment; else serve."""
    state: str
    """routable, draining, unready; or ejected: routable, and left alone for a while since it failed."""
    reason: str
    in_flight: int
    """From this router."""
    foreign: float
    """From others, estimated."""
    spare_connections: int


class ModelView(msgspec.Struct, frozen=True, rename="camel"):
    """What requests call by one name."""

    model: str
    waiting: dict[str, int]
    """By priority."""
    queue_depth: int
    """At most."""
    load: float
    policy: str
    replicas: list[ReplicaView]


class View(msgspec.Struct, frozen=True, rename="camel"):
    """All of it."""

    leaving: bool
    connections: int
    models: list[ModelView]


def view(shared: Shared) -> View:
    """As it is now."""
    return View(shared.leaving, len(shared.clients), [_model(shared, model) for model in shared.catalog.models()])


def _model(shared: Shared, model: Model) -> ModelView:
    rows = []
    for pool in model.pools:
        for role, replicas in (("serve", pool.replicas), ("prefill", pool.prefill)):
            if replicas is not None:
                rows += [_replica(shared, pool, replica, role) for replica in replicas.all() if pool.has(replica)]
    return ModelView(
        model=model.name,
        waiting={priority.name.lower(): model.queue.waiting(priority) for priority in reversed(Priority)},
        queue_depth=model.queue.max_depth,
        load=round(model.load.worst(), 3),
        policy=model.terms.policy,
        replicas=rows,
    )


def _replica(shared: Shared, pool: Pool, replica: Replica, role: str) -> ReplicaView:
    seen, ejected = replica.seen, replica.ejected
    return ReplicaView(
        name=replica.name,
        address=replica.authority.decode(),
        deployment=pool.name,
        role=role,
        state="ejected" if ejected else seen.state.value,
        reason="it failed again and again" if ejected else seen.reason,
        in_flight=replica.in_flight,
        foreign=round(replica.foreign.load, 1),
        spare_connections=shared.upstreams.idle(replica),
    )


def json(seen: View) -> bytes:
    return msgspec.json.format(msgspec.json.encode(seen)) + b"\n"


_REFRESH_SECONDS: Final = 2
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p { margin: .2rem 0 .8rem; opacity: .8; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #8884; }
th { font-weight: 600; opacity: .7; } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.state { padding: 0 .5rem; border-radius: 1rem; color: #fff; background: #777; }
.routable { background: #1a7f37; } .draining { background: #9a6700; } .ejected { background: #cf222e; }
"""
_COLUMNS: Final = ("replica", "state", "in flight", "from other routers", "spare connections", "address", "deployment")
_NUMBERS: Final = frozenset(("in flight", "from other routers", "spare connections"))


def html(seen: View) -> bytes:
    """The page."""
    state = "This router is shutting down. " if seen.leaving else ""
    models = "".join(_model_html(model) for model in seen.models) or "<p>No model is served here at the moment.</p>"
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Replicas</title>'
        f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}"><meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body><h1>Models and replicas, as this router sees them</h1>"
        f'<p>{state}{seen.connections} open connections. <a href="/debug/replicas.json">As JSON</a></p>{models}</body></html>\n'
    )
    return page.encode()


def _model_html(model: ModelView) -> str:
    count = sum(model.waiting.values())
    priorities = ", ".join(f"{waiting} {priority}" for priority, waiting in model.waiting.items() if waiting)
    waiting = f"{count} of {model.queue_depth} wait ({priorities})" if count else f"nobody waits (room for {model.queue_depth})"
    heads = "".join(f"<th{_kind(column)}>{column}</th>" for column in _COLUMNS)
    rows = "".join(_replica_html(replica) for replica in model.replicas)
    table = f"<table><tr>{heads}</tr>{rows}</table>" if rows else "<p>No replica runs.</p>"
    return f"<h2>{escape(model.model)}</h2><p>{escape(model.policy)}; {waiting}; load {model.load:.2f}</p>{table}"


def _replica_html(replica: ReplicaView) -> str:
    role = "" if replica.role == "serve" else f" ({replica.role})"
    state = f'<span class="state {replica.state}">{replica.state}</span> {escape(replica.reason)}'
    cells = (
        escape(replica.name),
        state,
        str(replica.in_flight),
        f"{replica.foreign:g}",
        str(replica.spare_connections),
        escape(replica.address),
        escape(replica.deployment) + role,
    )
    return "<tr>" + "".join(f"<td{_kind(name)}>{cell}</td>" for name, cell in zip(_COLUMNS, cells, strict=True)) + "</tr>"


def _kind(column: str) -> str:
    return ' class="number"' if column in _NUMBERS else ""
