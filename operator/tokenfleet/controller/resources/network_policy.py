"""The NetworkPolicy in front of the engines: only the LLMDeployment's own routers reach them.

An engine trusts whoever reaches it, so keys and limits hold only while nobody walks around the router. Policies add up: to let
a Prometheus read the engines' metrics, add a NetworkPolicy of your own that selects the same pods.
The kubelet's probes come from the pod's node and are let through by the network plugin.
"""

from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import child_metadata, engine_name, selector_labels


def build_engine_network_policy(deployment: Json) -> Json:
    """Ingress to the engine's port from the routers, and from nowhere else."""
    name = deployment["metadata"]["name"]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": child_metadata(deployment, name=engine_name(name), role=contract.ROLE_ENGINE),
        "spec": {
            "podSelector": {"matchLabels": selector_labels(name, role=contract.ROLE_ENGINE)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"podSelector": {"matchLabels": selector_labels(name, role=contract.ROLE_ROUTER)}}],
                    "ports": [{"protocol": "TCP", "port": contract.ENGINE_PORT}],
                }
            ],
        },
    }
