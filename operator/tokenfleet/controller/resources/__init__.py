"""The children of an LLMDeployment, as the controller wants them: pure functions of (LLMDeployment, spec, settings).

Every child is complete for a server-side apply and in the API server's own form (quantities, numbers), since what is wanted
is compared with what is there. A field that we set to an empty value (false, 0, "", {}) may be absent from what is there.
"""

from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.disruption_budgets import build_engine_disruption_budget, build_router_disruption_budget
from tokenfleet.controller.resources.engine import build_engine_deployment
from tokenfleet.controller.resources.network_policy import build_engine_network_policy
from tokenfleet.controller.resources.router import build_router_deployment
from tokenfleet.controller.resources.router_access import (
    build_router_role,
    build_router_role_binding,
    build_router_service_account,
)
from tokenfleet.controller.resources.services import build_engine_service, build_router_service
from tokenfleet.settings import ControllerSettings


def build_children(deployment: Json, spec: LLMDeploymentSpec, settings: ControllerSettings) -> list[Json]:
    """All children, in the order in which to apply them: what guards and identifies pods comes before the pods.

    Raises InvalidSpec where the spec cannot be run although the API server took it.
    """
    return [
        build_engine_network_policy(deployment),
        build_engine_disruption_budget(deployment),
        build_engine_service(deployment),
        build_engine_deployment(deployment, spec, settings),
        build_router_service_account(deployment),
        build_router_role(deployment),
        build_router_role_binding(deployment),
        build_router_disruption_budget(deployment),
        build_router_deployment(deployment, spec, settings),
        build_router_service(deployment),
    ]


__all__ = ["build_children"]
