"""The links of the engines' pods, from objects to requests: the controller's own checks, each asked by itself.

They are asked of what the cluster says now, so that they speak also where the controller that would ask them does not run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tokenfleet.api import conditions
from tokenfleet.cli.cluster.capacity import demand_of, nodes_of
from tokenfleet.cli.diagnose.findings import Finding, State, command_in, ok, unseen
from tokenfleet.cli.diagnose.snapshot import Json, Snapshot
from tokenfleet.controller.verdicts import checks, container_checks, spec_names
from tokenfleet.controller.verdicts.scene import ENGINE, PREFILL, Scene, Trouble
from tokenfleet.planning.placement import Demand, Node, refusal

_SHOWN_NODES: Final = 8
_WAITING: Final = frozenset(
    {
        conditions.CREATING,
        conditions.FETCHING_MODEL,
        conditions.LOADING_MODEL,
        conditions.UPDATING,
        conditions.INSPECTING_MODEL,
        conditions.ROUTER_STARTING,
        conditions.CANARY_PROGRESSING,
    }
)
"""What only takes time."""


@dataclass(frozen=True, slots=True)
class Link:
    """Checks of the controller that one link of the chain stands for."""

    title: str
    checks: tuple[checks.Check, ...]
    fine: Callable[[Scene], str]
    looked_at: str


def _count(scene: Scene) -> str:
    return f"{len(scene.active)} of {scene.wanted} {scene.role.noun} pods are there"


LINKS: Final = (
    Link("Wanted", (checks.scaled_to_zero,), lambda scene: f"Wanted {scene.role.noun} replicas: {scene.wanted}.", "the spec"),
    Link("Objects", (checks.not_made,), lambda scene: f"The Deployment {scene.child_name} is there.", "the Deployment"),
    Link(
        "Quota", (checks.pods_refused,), lambda scene: f"{_count(scene)}; nothing refuses them.", "the Deployment's conditions"
    ),
    Link("Nodes", (checks.not_placed,), lambda scene: _placed(scene), "the pods' conditions, the nodes"),
    Link("Image", (container_checks.image_not_pulled,), lambda _: "No image is missing.", "the containers' states"),
    Link(
        "Containers",
        (container_checks.container_not_made,),
        lambda _: "All that they mount is there.",
        "the containers' states",
    ),
    Link("Model files", (container_checks.fetching,), lambda _: "Nothing is being downloaded.", "the container fetch"),
    Link(
        "Engine",
        (container_checks.ended, container_checks.unhealthy, container_checks.starting, container_checks.creating),
        lambda scene: f"{len(scene.routable)} of {scene.wanted} are ready.",
        "the containers' states and last lines, the pods' conditions",
    ),
    Link(
        "In use",
        (container_checks.awaiting_use, checks.updating),
        lambda _: "Routers use all that are ready.",
        "the pods' readiness gates, the rollout",
    ),
)

_OF_NONE: Final = 2
"""Of these links, those that there are where no engine is wanted."""


def engine_links(seen: Snapshot) -> Iterator[Finding]:
    """Of the engines, and where prompts are read by others, of these."""
    for role in (ENGINE, PREFILL):
        scene = seen.scene(role)
        if role is PREFILL and not scene.wanted:
            return
        prefix = "" if role is ENGINE else "Prefill: "
        for link in LINKS if scene.wanted else LINKS[:_OF_NONE]:
            yield _judge(seen, scene, link, prefix)


def _judge(seen: Snapshot, scene: Scene, link: Link, prefix: str) -> Finding:
    looks = (seen.deployments,) if link.title in ("Objects", "Quota") else (seen.pods,)
    if why := next((look.unseen for look in looks if look.unseen), ""):
        return unseen(prefix + link.title, why, (link.looked_at,))
    trouble = next((found for check in link.checks if (found := check(scene)) is not None), None)
    if trouble is None or (link.title != "Wanted" and not scene.wanted):
        return ok(prefix + link.title, link.fine(scene), (link.looked_at,))
    return Finding(
        link=prefix + link.title,
        state=_state(scene, trouble),
        message=trouble[1],
        looked_at=(link.looked_at,),
        fix=command_in(trouble[1]),
        details=tuple(_details(seen, scene, link)),
    )


def _state(scene: Scene, trouble: Trouble) -> State:
    sleeps = trouble[0] == conditions.SCALED_TO_ZERO and "Autoscaling" in trouble[1]
    return State.WAITING if sleeps or trouble[0] in _WAITING else State.PROBLEM


def _details(seen: Snapshot, scene: Scene, link: Link) -> Iterator[str]:
    if link.title == "Nodes":
        yield from _node_by_node(seen, scene)
    elif link.title == "Engine":
        for pod in scene.waiting:
            name = pod["metadata"]["name"]
            yield from (f"{name}: {line}" for line in seen.last_words.get(name, ()))


def _placed(scene: Scene) -> str:
    nodes = sorted({pod["spec"]["nodeName"] for pod in scene.active if (pod.get("spec") or {}).get("nodeName")})
    return f"All pods have a node: {', '.join(nodes)}." if nodes else "No pod waits for a node."


def _node_by_node(seen: Snapshot, scene: Scene) -> Iterator[str]:
    """Why each node does not take the first pod that waits for one."""
    pod = next((one for one in scene.waiting if not (one.get("spec") or {}).get("nodeName")), None)
    if pod is None:
        return
    if seen.nodes.unseen or seen.all_pods.unseen:
        yield f"Not looked at node by node: {seen.nodes.unseen or seen.all_pods.unseen}"
        return
    demand = demand_of(pod["spec"])
    found = list(nodes_of(seen.nodes.items, seen.all_pods.items))
    for node in found[:_SHOWN_NODES]:
        yield f"{node.name}: {refusal(node, demand) or _lacks(node, demand) or 'it would take the pod'}"
    if len(found) > _SHOWN_NODES:
        yield f"and {len(found) - _SHOWN_NODES} nodes more"


def _lacks(node: Node, demand: Demand) -> str | None:
    missing = []
    for resource, wanted in demand.requests.items():
        free = node.allocatable.get(resource, 0.0) - node.used.get(resource, 0.0)
        if free < wanted:
            missing.append(f"{_amount(resource, max(0.0, free))} of {_amount(resource, wanted)} {resource} free")
    return f"has {', '.join(missing)}" if missing else None


def _amount(resource: str, value: float) -> str:
    return f"{value / 2**30:.1f}Gi" if "memory" in resource or "storage" in resource else f"{value:g}"


def volumes(seen: Snapshot) -> Finding:
    """The claims and Secrets that the spec names, and the routers'."""
    named = spec_names.claims(seen.owner or {})
    looked = (*(f"the claim {claim}" for claim in named), *(f"the Secret {secret}" for secret in seen.secrets))
    link = "Volumes and Secrets"
    there = {one["metadata"]["name"]: one for one in seen.claims.items}
    for claim, fields in named.items():
        if not seen.claims.unseen and (problem := _claim_problem(there.get(claim))):
            message = f"The PersistentVolumeClaim {claim}, which {' and '.join(fields)} names, {problem}."
            change = f"create it, or name another one: {seen.kubectl(f'edit llmd/{seen.name}')}"
            fix = seen.kubectl(f"describe pvc {claim}") if claim in there else change
            return Finding(link=link, state=State.PROBLEM, message=message, looked_at=looked, fix=fix)
    for secret, is_there in seen.secrets.items():
        if is_there is False:
            message = f"The Secret {secret}, which the spec names, is not there."
            keys = f"tokenfleet keys create NAME -s {secret} -n {seen.namespace}"
            made = seen.kubectl(f"create secret generic {secret} --from-literal=KEY=VALUE")
            fix = keys if secret == keys_secret(seen.owner or {}) else made
            return Finding(link=link, state=State.PROBLEM, message=message, looked_at=looked, fix=fix)
    hidden = [secret for secret, is_there in seen.secrets.items() if is_there is None]
    if hidden or (named and seen.claims.unseen):
        why = (
            seen.claims.unseen or f"You may not get the Secrets {', '.join(hidden)}: ask for a role that lets you get Secrets."
        )
        return unseen(link, why, looked)
    return ok(link, "All that the spec names is there." if looked else "The spec names none.", looked)


def _claim_problem(claim: Json | None) -> str | None:
    if claim is None:
        return "is not there"
    phase = (claim.get("status") or {}).get("phase")
    return "has lost its volume" if phase == "Lost" else None


def keys_secret(owner: Json) -> str | None:
    router = (owner.get("spec") or {}).get("router") or {}
    return (router.get("auth") or {}).get("keysSecret")
