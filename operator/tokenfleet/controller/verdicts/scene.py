"""One role of an owner, engines or routers, as the checks look at it: what is wanted, what is there, what serves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from tokenfleet import contract
from tokenfleet.api import conditions
from tokenfleet.api.router import Router
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, LLMRouterSpec, Spec
from tokenfleet.controller import pods
from tokenfleet.controller.goodbyes.course import wanted_replicas
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.resources import disaggregation
from tokenfleet.controller.resources.disaggregation import DECODE
from tokenfleet.controller.resources.metadata import canary_name, engine_name, prefill_name, router_name
from tokenfleet.controller.resources.router_secrets import secrets_of

Trouble = tuple[str, str]
"""(reason, message): what a check found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What differs between engines and routers."""

    label: str
    container: str
    noun: str
    crashed: str
    crash_looping: str
    starting: str
    unhealthy: str
    track: str = contract.TRACK_STABLE


ENGINE = Role(
    label=contract.ROLE_ENGINE,
    container=contract.CONTAINER_ENGINE,
    noun="engine",
    crashed=conditions.ENGINE_CRASHED,
    crash_looping=conditions.ENGINE_CRASH_LOOPING,
    starting=conditions.LOADING_MODEL,
    unhealthy=conditions.ENGINE_UNHEALTHY,
)
PREFILL = replace(ENGINE, label=contract.ROLE_PREFILL, noun="prefill")
"""Engines that read prompts for the others. `wanted` is 0 where there are to be none."""
CANARY = replace(ENGINE, noun="canary", track=contract.TRACK_CANARY)
"""The engine that tries a change."""
ROUTER = Role(
    label=contract.ROLE_ROUTER,
    container=contract.CONTAINER_ROUTER,
    noun="router",
    crashed=conditions.ROUTER_CRASH_LOOPING,
    crash_looping=conditions.ROUTER_CRASH_LOOPING,
    starting=conditions.ROUTER_STARTING,
    unhealthy=conditions.ROUTER_STARTING,
)


_CHILD_NAMES = {ENGINE.label: engine_name, PREFILL.label: prefill_name, ROUTER.label: router_name}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the checks of one role may look at."""

    role: Role
    observed: Observed
    spec: Spec | None
    """None: it cannot be run as written, and what ran before goes on."""
    waits: Trouble | None = None
    """What pods wait for that are to be made or changed."""

    @cached_property
    def child_name(self) -> str:
        if self.role is CANARY:
            return canary_name(self.observed.name)
        return _CHILD_NAMES[self.role.label](self.observed.name)

    @cached_property
    def workload(self) -> Json | None:
        """The Deployment of this role's pods, whoever owns it."""
        return self.observed.children.get(("Deployment", self.child_name))

    @cached_property
    def owned(self) -> bool:
        """Whether `workload` is there and ours."""
        return bool(self._controller) and self._controller.get("uid") == self.observed.uid

    @cached_property
    def foreign(self) -> bool:
        """Whether `workload` is someone else's for good, and not of an owner of this kind and name that was before."""
        former = (self._controller.get("kind"), self._controller.get("name")) == (self.observed.kind, self.observed.name)
        return self.workload is not None and not self.owned and not former

    @cached_property
    def _controller(self) -> Json:
        owners: list[Json] = ((self.workload or {}).get("metadata") or {}).get("ownerReferences") or []
        return next((owner for owner in owners if owner.get("controller")), {})

    @cached_property
    def wanted(self) -> int:
        """Replicas: by the spec, or by what runs where the spec cannot be run."""
        if self.role is CANARY:
            return 1
        if isinstance(self.spec, LLMDeploymentSpec) and self.role is not ROUTER:
            part = DECODE if self.role is ENGINE else disaggregation.PREFILL
            return part.replicas(self.spec, wanted_replicas(self.observed, self.spec))
        if self.router is not None:
            return self.router.replicas
        return int(((self.workload or {}).get("spec") or {}).get("replicas") or 0)

    @cached_property
    def router(self) -> Router | None:
        """What the spec says of the router."""
        return self.spec.router if isinstance(self.spec, LLMDeploymentSpec) else self.spec

    @cached_property
    def secrets(self) -> str:
        """The Secrets that the routers wait for, as the spec names them: `keys (spec.auth.keysSecret)`; "" for none."""
        if self.role is not ROUTER or self.router is None:
            return ""
        prefix = "spec" if isinstance(self.spec, LLMRouterSpec) else "spec.router"
        return ", ".join(f"{secret.name} ({prefix}.{secret.field})" for secret in secrets_of(self.router))

    @cached_property
    def active(self) -> Sequence[Json]:
        """The role's pods that count as replicas, the newest first: those tell of the newest spec."""
        own = (pod for pod in self.observed.pods if (pods.role(pod), pods.track(pod)) == (self.role.label, self.role.track))
        return pods.newest_first(pod for pod in own if pods.is_active(pod))

    @cached_property
    def routable(self) -> Sequence[Json]:
        return [pod for pod in self.active if pods.is_routable(pod)]

    @cached_property
    def waiting(self) -> Sequence[Json]:
        """Active pods that are not up: whatever is wrong shows in these.

        Those of the newest template alone, where there are such: why the ones before them failed may just have been mended.
        """
        unready = [pod for pod in self.active if not pods.is_up(pod)]
        return [pod for pod in unready if pods.template_hash(pod) == pods.template_hash(self.active[0])] or unready

    @property
    def serves(self) -> bool:
        return bool(self.routable) and self.wanted > 0

    def kubectl(self, command: str) -> str:
        """A command for the reader to go on with."""
        return f"kubectl -n {self.observed.namespace} {command}"
