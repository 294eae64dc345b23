"""The children of an LLMDeployment or LLMRouter, as the controller wants them: pure functions of what is given.

Every child is complete for a server-side apply and in the API server's own form (quantities, numbers), since what is wanted
is compared with what is there. A field that we set to an empty value (false, 0, "", {}) may be absent from what is there.
"""

from collections.abc import Mapping

from tokenfleet.api.router import Router
from tokenfleet.api.v1alpha1 import Drain, LLMDeploymentSpec, LLMRouterSpec, Spec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.autoscaling import build_autoscaler
from tokenfleet.controller.resources.disaggregation import DECODE, PREFILL
from tokenfleet.controller.resources.disruption_budgets import (
    build_engine_disruption_budget,
    build_prefill_disruption_budget,
    build_router_disruption_budget,
)
from tokenfleet.controller.resources.engine import build_engine_deployment
from tokenfleet.controller.resources.network_policy import build_engine_network_policy, build_prefill_network_policy
from tokenfleet.controller.resources.router import build_router_deployment
from tokenfleet.controller.resources.router_access import (
    build_router_role,
    build_router_role_binding,
    build_router_service_account,
)
from tokenfleet.controller.resources.services import build_engine_service, build_prefill_service, build_router_service
from tokenfleet.settings import ControllerSettings


def build_children(
    owner: Json,
    spec: Spec,
    settings: ControllerSettings,
    replicas: Mapping[str, int] | None = None,
    *,
    router_max_in_flight: int | None = None,
) -> list[Json]:
    """All children, in the order in which to apply them: what guards and identifies pods comes before the pods.

    replicas: of an LLMDeployment's engines, by role, as its course has them. Default: as many as its spec says.

    router_max_in_flight: what the LLMRouter that serves it gives to a replica at once, where that says so.

    Raises InvalidSpec where the spec cannot be run although the API server took it.
    """
    if isinstance(spec, LLMRouterSpec):
        return _router(owner, spec, spec.drain, settings)
    if replicas is None:
        replicas = {part.role: part.replicas(spec, spec.replicas) for part in (DECODE, PREFILL)}
    own = [] if spec.router_ref else _router(owner, spec.router, spec.drain, settings)
    return [*_engine(owner, spec, settings, replicas), *own, *build_autoscaler(owner, spec, router_max_in_flight)]


def _engine(deployment: Json, spec: LLMDeploymentSpec, settings: ControllerSettings, replicas: Mapping[str, int]) -> list[Json]:
    prefill = [] if spec.disaggregation is None else [
        build_prefill_network_policy(deployment, spec),
        build_prefill_disruption_budget(deployment),
        build_prefill_service(deployment),
        build_engine_deployment(deployment, spec, settings, PREFILL, replicas=replicas[PREFILL.role]),
    ]  # fmt: skip
    return [
        build_engine_network_policy(deployment, spec),
        build_engine_disruption_budget(deployment),
        build_engine_service(deployment),
        build_engine_deployment(deployment, spec, settings, replicas=replicas[DECODE.role]),
        *prefill,
    ]


def _router(owner: Json, router: Router, drain: Drain, settings: ControllerSettings) -> list[Json]:
    return [
        build_router_service_account(owner),
        build_router_role(owner),
        build_router_role_binding(owner),
        build_router_disruption_budget(owner),
        build_router_deployment(owner, router, settings, drain_seconds=drain.timeout_seconds),
        build_router_service(owner, router),
    ]


__all__ = ["build_children"]
