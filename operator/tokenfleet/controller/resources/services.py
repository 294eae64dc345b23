"""The Services: the one that clients use, and those by which metrics of engines are found.

The engines' Services are headless: they name the pods, and do not balance over them, since that is the router's work.
"""

from tokenfleet import contract
from tokenfleet.api.router import Router
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import child_metadata, engine_name, prefill_name, selector_labels


def build_router_service(owner: Json, router: Router) -> Json:
    """The Service of the owner's own name: what clients send requests to."""
    name = owner["metadata"]["name"]
    port = ("https", contract.SERVICE_TLS_PORT) if router.tls else ("http", contract.SERVICE_PORT)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(owner, name=name, role=contract.ROLE_ROUTER),
        "spec": {
            "type": "ClusterIP",
            "selector": selector_labels(name, role=contract.ROLE_ROUTER, kind=owner["kind"]),
            "ports": [{"name": port[0], "port": port[1], "targetPort": "http", "protocol": "TCP"}],
        },
    }


def build_engine_service(deployment: Json) -> Json:
    """The engines' Service: for a Prometheus to discover them, and for nobody to send requests to."""
    return _headless(deployment, child=engine_name(deployment["metadata"]["name"]), role=contract.ROLE_ENGINE)


def build_prefill_service(deployment: Json) -> Json:
    """The same of the prefill pods."""
    return _headless(deployment, child=prefill_name(deployment["metadata"]["name"]), role=contract.ROLE_PREFILL)


def _headless(deployment: Json, *, child: str, role: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(deployment, name=child, role=role),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": selector_labels(deployment["metadata"]["name"], role=role),
            "ports": [{"name": "http", "port": contract.ENGINE_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }
