"""One LLMDeployment that the controller scales: its policy at work, and what of that is to survive a restart.

status.scaling is all that does: the count, the last decisions, spec.replicas as it was last seen (another one is a new start),
and, where it may sleep, when it last had a request, so that a controller that begins anew does not begin its idle time anew.
"""

from dataclasses import dataclass
from typing import Final

from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.controller import moments
from tokenfleet.controller.actuators.handover import BUILTIN
from tokenfleet.controller.autoscaling.budget import Need
from tokenfleet.controller.autoscaling.known_specs import Known
from tokenfleet.controller.observed import Json, Load
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.scaling import Decision, Policy, Scaler, Signal, policy_of
from tokenfleet.planning.scaling.reasons import REPLICAS_SET

KEPT: Final = 5
"""Decisions in status.scaling.history."""
_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the spec asks of the autoscaler."""

    policy: Policy
    replicas: int
    """spec.replicas."""
    need: Need | None
    """Of one replica, where there may be a budget for it."""


def target_of(known: Known | None) -> Target | None:
    """None: the controller does not scale it now."""
    spec = known.spec if known is not None else None
    if known is None or spec is None or spec.suspend or spec.autoscaling is None or spec.autoscaling.actuator != BUILTIN:
        return None
    policy = policy_of(spec, router_max_in_flight=known.router_max_in_flight)
    try:
        resource = find_accelerator(spec.accelerator).resource
    except InvalidSpec:
        return None
    need = Need(resource=resource, count=spec.parallelism.gpus) if resource is not None else None
    return Target(policy=policy, replicas=spec.replicas, need=need) if policy is not None else None


class Subject:
    """What is known and decided of it. `now` is in Unix seconds."""

    def __init__(self, target: Target, before: Json, *, standing: int = 0, now: float) -> None:
        """before: status.scaling as it stands. standing: replicas that the engines' Deployment has and that do not drain. They
        are more where a controller died between that count and status; what it had decided is not taken back."""
        ours = before if before.get("actuator") == BUILTIN else {}
        self.target = target
        self.desired = max(int(ours["desired"]), standing) if ours else target.replicas
        """As last told."""
        self.history: list[Json] = list(before.get("history") or ())
        self.last_request = moments.seconds(ours["lastRequestTime"]) if "lastRequestTime" in ours else None
        self.verdict: Verdict | None = None
        """ScalingReady; None: not known yet, what was told last holds."""
        self.looked_at = 0.0
        self._set_to: int | None = None
        """spec.replicas, where somebody has just set it."""
        self.scaler = Scaler(target.policy, desired=self.desired, now=self._idle_since(now))
        if ours.get("specReplicas", target.replicas) != target.replicas:
            self._restart(target.replicas, now)

    def _idle_since(self, now: float) -> float:
        """From when on it counts as idle, if nothing comes: the last request, of which only the minute is known."""
        if self.last_request is None or not self.desired or self.target.policy.scale_to_zero_seconds is None:
            return now
        return min(now, self.last_request + _MINUTE)

    def aim(self, target: Target, *, now: float) -> None:
        """The spec is this now."""
        if target.policy != self.target.policy:
            self.scaler.adopt(target.policy)
        if target.replicas != self.target.replicas:
            self._restart(target.replicas, now)
        self.target = target

    def _restart(self, replicas: int, now: float) -> None:
        self.scaler.restart(replicas, now=now)
        self._set_to = replicas

    def decide(self, signal: Signal | None, *, now: float, most: int | None) -> Decision:
        """most: replicas that may run; None: no bound."""
        return self.scaler.decide(signal, now=now, budget=most)

    def take(self, decision: Decision, verdict: Verdict | None, load: Load | None, *, now: float) -> bool:
        """Make it so. Whether there is anything new to tell."""
        before = self.status, self.verdict
        if load is not None and load.idle_seconds is not None:
            self.last_request = max(self.last_request or 0.0, now - load.idle_seconds)
        if decision.desired != self.desired:
            self.history = [_item(self.desired, self._explained(decision), now), *self.history][:KEPT]
            self.desired = decision.desired
        self._set_to = None
        self.verdict = verdict or self.verdict
        return (self.status, self.verdict) != before

    def _explained(self, decision: Decision) -> Decision:
        """Whoever set spec.replicas is why the count changes, whatever else may be said of it by now."""
        if self._set_to is None:
            return decision
        return Decision(decision.desired, REPLICAS_SET, f"spec.replicas was set to {self._set_to}: {decision.desired} wanted.")

    @property
    def status(self) -> Json:
        """As status.scaling."""
        told: Json = {"desired": self.desired, "actuator": BUILTIN, "specReplicas": self.target.replicas}
        if self.last_request is not None and self.target.policy.scale_to_zero_seconds is not None:
            told["lastRequestTime"] = moments.rfc3339(self.last_request // _MINUTE * _MINUTE)
        return {**told, "history": self.history} if self.history else told


def _item(before: int, decision: Decision, now: float) -> Json:
    """Of the history."""
    change = {"before": before, "after": decision.desired, "reason": decision.reason, "message": decision.message}
    return {"time": moments.rfc3339(now), **change}


DECIDES: Final = Verdict(
    status="True", reason=conditions.AS_EXPECTED, message="The controller decides, by what the routers report each second."
)


def blind(*, routers: bool, desired: int) -> Verdict:
    """No load is known. routers: some are ready, but not all of their reports come."""
    kept = f"The count stays at {desired} at least."
    if routers:
        step = "The controller must reach port 9090 of their pods: look at its log, and at NetworkPolicies."
        return _false(conditions.SIGNAL_STALE, f"The reports of a router that is ready do not come. {kept} {step}")
    return _false(conditions.SIGNAL_MISSING, f"No router is ready, so no load is known. {kept} See RouterReady.")


def unaffordable(message: str, *, unknown: str) -> Verdict:
    """More replicas are wanted than the quota has room for, or than it is known to have."""
    if unknown:
        step = "The controller needs the right to list resourcequotas; no replica is added until it can."
        return _false(conditions.BUDGET_UNKNOWN, f"The namespace's ResourceQuotas cannot be read: {unknown}. {step}")
    return _false(conditions.BUDGET_EXHAUSTED, f"{message} Raise the ResourceQuota, or lower maxReplicas.")


def _false(reason: str, message: str) -> Verdict:
    return Verdict(status="False", reason=reason, message=message)
