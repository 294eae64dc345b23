"""The spec of an LLMRouter: a router's own fields, and how the requests for a model are spread."""

from typing import Annotated, ClassVar

from pydantic import Field

from tokenfleet.api.pods import Drain
from tokenfleet.api.router import Router
from tokenfleet.api.rules import Rule, Ruled, distinct
from tokenfleet.api.scalars import ModelName, ObjectName


class Target(Ruled):
    """An LLMDeployment that answers for a model."""

    deployment: ObjectName = Field(description="An LLMDeployment of this namespace whose routerRef names this LLMRouter.")
    weight: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Its share of the model's requests, relative to the other targets'. 0: only what no other has room for.",
    )


class Route(Ruled):
    """How the requests for one model are spread."""

    rules: ClassVar = (
        Rule(
            cel="self.targets.all(one, self.targets.exists_one(other, other.deployment == one.deployment))",
            message="targets must not name a deployment twice: add up the two weights",
            holds=lambda route: distinct(target.deployment for target in route.targets),
        ),
        Rule(
            cel="self.targets.size() == 0 || self.targets.exists(one, one.weight > 0)",
            message="targets must not all have the weight 0: give one of them a share",
            holds=lambda route: not route.targets or any(target.weight > 0 for target in route.targets),
        ),
        Rule(
            cel="!(self.model in self.fallbacks) && self.fallbacks.all(one, self.fallbacks.exists_one(other, other == one))",
            message="fallbacks must be other models than the route's own, each named once: remove what is named twice",
            holds=lambda route: distinct((route.model, *route.fallbacks)),
        ),
        Rule(
            cel="self.targets.size() > 0 || self.fallbacks.size() > 0",
            message="a route must have targets or fallbacks: without one, a model is served by all that have its servedName",
            holds=lambda route: bool(route.targets or route.fallbacks),
        ),
    )

    model: ModelName = Field(description="The name that requests give as `model`.")
    targets: Annotated[list[Target], Field(max_length=16)] = Field(
        default=[],
        description="What answers. Default: every LLMDeployment of this router whose servedName is `model`, in equal shares.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["deployment"]},
    )
    fallbacks: Annotated[list[ModelName], Field(max_length=8)] = Field(
        default=[], description="Models that answer instead while this one has no place for a request, in order."
    )


class LLMRouterSpec(Router):
    """What the user wants of a shared router."""

    rules: ClassVar = (
        *Router.rules,
        Rule(
            cel="self.routes.all(one, self.routes.exists_one(other, other.model == one.model))",
            message="routes must not name a model twice: make one route of the two",
            holds=lambda spec: distinct(route.model for route in spec.routes),
        ),
    )

    drain: Drain = Field(default=Drain(), description="How router pods say goodbye.")
    routes: Annotated[list[Route], Field(max_length=64)] = Field(
        default=[],
        description="Models that several LLMDeployments share, or that others stand in for. Each LLMDeployment whose routerRef "
        "names this LLMRouter is served under its servedName without one.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["model"]},
    )
