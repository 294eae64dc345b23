"""The first links: the API's kind, the controller that acts on it, a spec that can be run, and a model that fits."""

from datetime import datetime
from typing import Final

from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.api.parsing import parse_spec
from tokenfleet.cli.diagnose.findings import Finding, State, command_in, ok, unseen
from tokenfleet.cli.diagnose.snapshot import Json, Snapshot
from tokenfleet.cli.status.words import span
from tokenfleet.controller import pods
from tokenfleet.errors import InvalidSpec

_INSTALL: Final = (
    "helm install tokenfleet oci://…/tokenfleet --namespace tokenfleet-system --create-namespace (docs/install.md)"
)
_STALE_SECONDS: Final = 60
"""A Lease is renewed every few seconds; clocks of two machines differ by less than this."""


def kind_known(seen: Snapshot) -> Finding:
    link, looked = "API", (f"{contract.PLURAL}.{contract.GROUP}",)
    if seen.owner is None:
        message = f"This cluster knows no {contract.KIND}s: Tokenfleet is not installed, or its CRDs were deleted."
        return Finding(link=link, state=State.PROBLEM, message=message, looked_at=looked, fix=_INSTALL)
    return ok(link, f"The cluster knows {contract.KIND}s, and has {seen.place}.", looked)


def controller_alive(seen: Snapshot) -> Finding:
    """By its Lease, which it renews only while it can read and write."""
    link, looked = "Controller", (f"the Lease {contract.LEADER_LEASE}", "the controller's pods")
    if seen.lease.unseen and (seen.controllers.unseen or not seen.controllers.items):
        return unseen(link, f"Whether a controller runs could not be seen: {seen.lease.unseen}", looked)
    running = [pod for pod in seen.controllers.items if pods.is_ready(pod)]
    lease = next(iter(seen.lease.items), None)
    idle = _idle_seconds(lease, seen.now)
    if idle is not None and idle <= _STALE_SECONDS and (holder := ((lease or {}).get("spec") or {}).get("holderIdentity")):
        return ok(link, f"{holder} leads, and renewed its Lease {span(idle)} ago.", looked)
    if seen.lease.unseen and running:
        return ok(link, f"{running[0]['metadata']['name']} is ready.", looked)
    return _no_leader(seen, link, looked, idle)


def _no_leader(seen: Snapshot, link: str, looked: tuple[str, ...], idle: float | None) -> Finding:
    since = f" since {span(idle)}" if idle is not None else ""
    what = f"No controller leads{since}, so nothing that is changed is acted upon; what runs goes on."
    pod = next(iter(seen.controllers.items), None)
    if pod is not None:
        metadata = pod["metadata"]
        fix = f"kubectl -n {metadata['namespace']} logs {metadata['name']} --tail=20"
        message = f"{what} Its pod {metadata['name']} is {_state(pod)}."
    else:
        where = f"-n {seen.lease.items[0]['metadata']['namespace']} " if seen.lease.items else "-A "
        fix = f"kubectl {where}get deployments -l app.kubernetes.io/part-of=tokenfleet"
        message = f"{what} It has no pod: its Deployment is scaled to 0, or is not there."
        if seen.lease.items:
            fix = f"kubectl {where}scale deployment -l app.kubernetes.io/part-of=tokenfleet --replicas=1"
    return Finding(link=link, state=State.PROBLEM, message=message, looked_at=looked, fix=fix)


def _state(pod: Json) -> str:
    for status in pods.containers(pod):
        if reason := ((status.get("state") or {}).get("waiting") or {}).get("reason"):
            return f"in {reason}"
    return "ready" if pods.is_ready(pod) else f"{pods.phase(pod).lower() or 'unknown'} and not ready"


def _idle_seconds(lease: Json | None, now: datetime) -> float | None:
    renewed = ((lease or {}).get("spec") or {}).get("renewTime")
    return None if not renewed else (now - datetime.fromisoformat(renewed)).total_seconds()


def spec_valid(seen: Snapshot) -> Finding:
    """By what the spec is, and by what the API server said to the controller about it."""
    link, looked = "Spec", (f"{contract.KIND} {seen.place}", f"its condition {conditions.SPEC_VALID}")
    owner = seen.owner or {}
    edit = seen.kubectl(f"edit llmd/{seen.name}")
    try:
        parse_spec(seen.name, owner.get("spec") or {})
    except InvalidSpec as error:
        message = f"The spec cannot be run: {' '.join(str(error).split())}"
        return Finding(link=link, state=State.PROBLEM, message=message, looked_at=looked, fix=edit)
    told, current = seen.condition(conditions.SPEC_VALID), _is_current(owner)
    if told is not None and told["status"] == "False" and current:
        fix = command_in(told["message"]) or edit
        return Finding(link=link, state=State.PROBLEM, message=told["message"], looked_at=looked, fix=fix)
    if not current:
        message = "The controller has not looked at the newest spec yet."
        return Finding(link=link, state=State.WAITING, message=message, looked_at=looked)
    return ok(link, "The spec can be run.", looked)


def _is_current(owner: Json) -> bool:
    return ((owner.get("status") or {}).get("observedGeneration") or 0) >= (owner["metadata"].get("generation") or 0)


def model_fits(seen: Snapshot) -> Finding:
    """The controller's own verdict: an inspection of the model's files stands behind it."""
    link, looked = "Model fits", (f"the condition {conditions.MODEL_FITS}",)
    told = seen.condition(conditions.MODEL_FITS)
    if told is None:
        return ok(link, "Nobody asks whether the model fits: it is simulated, or inspections are off.", looked)
    if told["status"] == "True":
        return ok(link, told["message"], looked)
    if told["status"] == "False":
        fix = f"tokenfleet plan memory shows what it takes; then {seen.kubectl(f'edit llmd/{seen.name}')}"
        return Finding(link=link, state=State.PROBLEM, message=told["message"], looked_at=looked, fix=fix)
    waits = told["reason"] == conditions.INSPECTING_MODEL
    return Finding(link=link, state=State.WAITING if waits else State.NOTE, message=told["message"], looked_at=looked)
