"""The NetworkPolicy in front of the engines: only the routers that serve them reach them.

An engine trusts whoever reaches it, so keys and limits hold only while nobody walks around the router. Policies add up: to let
a Prometheus read the engines' metrics, add a NetworkPolicy of your own that selects the same pods. Routers of its own are let
in beside a shared one, so that their streams end in peace when the LLMDeployment moves to that one.
The kubelet's probes come from the pod's node and are let through by the network plugin.
"""

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import child_metadata, engine_name, prefill_name, selector_labels


def build_engine_network_policy(deployment: Json, spec: LLMDeploymentSpec) -> Json:
    """Ingress to the engine's port from the routers, and from nowhere else but the prefill pods where there are any."""
    ingress = [_requests(deployment, spec)]
    if spec.disaggregation is not None:
        ingress.append(_blocks(deployment, role=contract.ROLE_PREFILL))
    return _policy(deployment, child=engine_name(deployment["metadata"]["name"]), role=contract.ROLE_ENGINE, ingress=ingress)


def build_prefill_network_policy(deployment: Json, spec: LLMDeploymentSpec) -> Json:
    """Ingress from the routers, and from the pods that fetch KV blocks."""
    ingress = [_requests(deployment, spec), _blocks(deployment, role=contract.ROLE_ENGINE, handshake=True)]
    return _policy(deployment, child=prefill_name(deployment["metadata"]["name"]), role=contract.ROLE_PREFILL, ingress=ingress)


def _requests(deployment: Json, spec: LLMDeploymentSpec) -> Json:
    name = deployment["metadata"]["name"]
    routers = [selector_labels(name, role=contract.ROLE_ROUTER)]
    if spec.router_ref is not None:
        routers.append(selector_labels(spec.router_ref.name, role=contract.ROLE_ROUTER, kind=contract.ROUTER_KIND))
    return {
        "from": [{"podSelector": {"matchLabels": labels}} for labels in routers],
        "ports": [{"protocol": "TCP", "port": contract.ENGINE_PORT}],
    }


def _blocks(deployment: Json, *, role: str, handshake: bool = False) -> Json:
    """NIXL's connections from the pods of the other role: either side may open one."""
    first, last = contract.NIXL_DATA_PORTS
    ports: list[Json] = [{"protocol": "TCP", "port": first, "endPort": last}]
    if handshake:
        ports.insert(0, {"protocol": "TCP", "port": contract.NIXL_PORT})
    labels = selector_labels(deployment["metadata"]["name"], role=role)
    return {"from": [{"podSelector": {"matchLabels": labels}}], "ports": ports}


def _policy(deployment: Json, *, child: str, role: str, ingress: list[Json]) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": child_metadata(deployment, name=child, role=role),
        "spec": {
            "podSelector": {"matchLabels": selector_labels(deployment["metadata"]["name"], role=role)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }
