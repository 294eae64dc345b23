"""The last links: routers, their Service, scaling, warnings, and a request as a client sends it."""

from datetime import datetime, timedelta
from typing import Final

from tokenfleet.api import conditions
from tokenfleet.cli.cluster.target import served_name
from tokenfleet.cli.diagnose.findings import Finding, State, command_in, ok, unseen
from tokenfleet.cli.diagnose.snapshot import Json, Snapshot
from tokenfleet.cli.status.words import span
from tokenfleet.controller import shared_router
from tokenfleet.controller.verdicts import checks

_RECENT: Final = timedelta(hours=1)
_SHOWN: Final = 5


def routers(seen: Snapshot) -> Finding:
    link = "Routers"
    if seen.router_name is not None:
        return _shared(seen, link)
    looked = ("the routers' Deployment", "their pods")
    if why := seen.pods.unseen or seen.deployments.unseen:
        return unseen(link, why, looked)
    verdict = checks.router_ready(seen.observed, seen.spec)
    if verdict.status == "True" and verdict.reason == conditions.AS_EXPECTED:
        return ok(link, verdict.message, looked)
    waits = verdict.reason in (conditions.CREATING, conditions.ROUTER_STARTING, conditions.UPDATING)
    state = State.WAITING if waits else State.PROBLEM
    return Finding(link=link, state=state, message=verdict.message, looked_at=looked, fix=command_in(verdict.message))


def _shared(seen: Snapshot, link: str) -> Finding:
    looked = (f"the LLMRouter {seen.router_name}",)
    if seen.router.unseen:
        return unseen(link, seen.router.unseen, looked)
    verdict = shared_router.verdict(seen.observed)
    if verdict.status != "True":
        state = State.WAITING if verdict.reason in (conditions.CREATING, conditions.ROUTER_STARTING) else State.PROBLEM
        fix = command_in(verdict.message) or seen.kubectl(f"describe llmr {seen.router_name}")
        return Finding(link=link, state=state, message=verdict.message, looked_at=looked, fix=fix)
    told = (seen.router.items[0].get("status") or {}).get("conditions") or ()
    routes: Json = next((dict(one) for one in told if one["type"] == conditions.SPEC_VALID), {})
    if routes.get("reason") in (conditions.ROUTES_UNRESOLVED, conditions.INVALID_SPEC):
        message, fix = f"LLMRouter {seen.router_name}: {routes['message']}", seen.kubectl(f"edit llmr/{seen.router_name}")
        return Finding(link=link, state=State.PROBLEM, message=message, looked_at=looked, fix=fix)
    return ok(link, verdict.message, looked)


def service(seen: Snapshot) -> Finding:
    """Of the routers, whoever's they are, and what stands behind it."""
    name = seen.router_name or seen.name
    link, looked = "Service", (f"the Service {name}", "its EndpointSlices")
    if why := seen.services.unseen or seen.slices.unseen:
        return unseen(link, why, looked)
    if not any(one["metadata"]["name"] == name for one in seen.services.items):
        state = State.PROBLEM if (seen.deployments.items or seen.router.items) else State.WAITING
        message, fix = f"The Service {name} is not there.", seen.kubectl("get events --sort-by=.lastTimestamp")
        return Finding(link=link, state=state, message=message, looked_at=looked, fix=fix)
    endpoints = [each for one in seen.slices.items for each in one.get("endpoints") or ()]
    ready = sum((each.get("conditions") or {}).get("ready") is not False for each in endpoints)
    if not ready:
        message, fix = f"The Service {name} has no endpoint that is ready.", seen.kubectl(f"describe service {name}")
        waits = not endpoints or bool(seen.pods.items)
        return Finding(link=link, state=State.WAITING if waits else State.PROBLEM, message=message, looked_at=looked, fix=fix)
    return ok(link, f"{name} has {ready} ready endpoint{'s' if ready != 1 else ''}.", looked)


def scaling(seen: Snapshot) -> Finding:
    link, looked = "Scaling", (f"the condition {conditions.SCALING_READY}",)
    told = seen.condition(conditions.SCALING_READY)
    if told is None:
        return ok(link, "It is not autoscaled: spec.replicas says how many there are.", looked)
    if told["status"] == "True":
        return ok(link, told["message"], looked)
    state = State.PROBLEM if told["status"] == "False" else State.NOTE
    fix = command_in(told["message"])
    return Finding(link=link, state=state, message=told["message"], looked_at=looked, fix=fix)


def warnings(seen: Snapshot) -> Finding:
    """Events are no verdict: what they warned of may be over."""
    link, looked = "Events", ("warnings of the last hour",)
    if seen.events.unseen:
        return unseen(link, seen.events.unseen, looked)
    told: dict[tuple[str, str], tuple[datetime, str]] = {}
    for event in seen.events.items:
        when = _when(event)
        thing = event.get("involvedObject") or {}
        if when is None or seen.now - when > _RECENT or not _is_ours(seen, str(thing.get("name"))):
            continue
        told[(thing["name"], event["reason"])] = (
            when,
            f"{span((seen.now - when).total_seconds())} ago, {str(thing.get('kind')).lower()} {thing['name']}: "
            f"{event['reason']}: {' '.join(str(event.get('message')).split())}",
        )
    if not told:
        return ok(link, "No warning in the last hour.", looked)
    newest = sorted(told.values(), reverse=True)
    lines = tuple(text for _, text in newest[:_SHOWN])
    message = f"{len(newest)} kind{'s' if len(newest) != 1 else ''} of warnings in the last hour; they may be over."
    return Finding(link=link, state=State.NOTE, message=message, looked_at=looked, details=lines)


def _when(event: Json) -> datetime | None:
    series = (event.get("series") or {}).get("lastObservedTime")
    text = series or event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    return datetime.fromisoformat(text) if text else None


def _is_ours(seen: Snapshot, name: str) -> bool:
    """Of pods, and what makes them. The LLMDeployment's own events say what its conditions say."""
    pods = {pod["metadata"]["name"] for pod in (*seen.pods.items, *seen.router_pods.items)}
    sets = tuple(f"{one['metadata']['name']}-" for one in seen.deployments.items)
    return name in pods or f"{name}-" in sets or name.startswith(sets)


def request(seen: Snapshot) -> Finding:
    """A router's answer to /v1/models, by a forward: what a client would get."""
    link = "Request"
    if seen.reply is None:
        return Finding(link=link, state=State.NOTE, message="Nothing was sent, since no router is ready.")
    looked, reply = (f"GET {seen.reply.url}",), seen.reply
    name = served_name(seen.owner or {"metadata": {"name": seen.name}})
    if reply.status == 200 and name in reply.models:
        return ok(link, f"A router answers, and serves {name}.", looked)
    if reply.status == 401:
        return ok(link, "A router answers; it wants an API key, so no more was asked.", looked)
    if reply.status == 200:
        message = f"A router answers, and does not serve {name}; it serves {', '.join(reply.models) or 'nothing'}."
        fix = f"tokenfleet logs {seen.name} -n {seen.namespace} --role router"
        return Finding(link=link, state=State.PROBLEM, message=message, looked_at=looked, fix=fix)
    if reply.status is None:
        return unseen(link, reply.words, looked)
    message = f"A router answered {reply.status}: {reply.words}"
    fix = f"tokenfleet logs {seen.name} -n {seen.namespace} --role router"
    return Finding(link=link, state=State.PROBLEM, message=message, looked_at=looked, fix=fix)
