"""The two Services: the one that clients use, and the one by which metrics of engines are found.

The engines' Service is headless: it names the pods, and does not balance over them, since that is the router's work.
"""

from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import child_metadata, engine_name, selector_labels


def build_router_service(deployment: Json) -> Json:
    """The Service of the LLMDeployment's own name: what clients send requests to."""
    name = deployment["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(deployment, name=name, role=contract.ROLE_ROUTER),
        "spec": {
            "type": "ClusterIP",
            "selector": selector_labels(name, role=contract.ROLE_ROUTER),
            "ports": [{"name": "http", "port": contract.SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def build_engine_service(deployment: Json) -> Json:
    """The engines' Service: for a Prometheus to discover them, and for nobody to send requests to."""
    name = deployment["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(deployment, name=engine_name(name), role=contract.ROLE_ENGINE),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": selector_labels(name, role=contract.ROLE_ENGINE),
            "ports": [{"name": "http", "port": contract.ENGINE_PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }
