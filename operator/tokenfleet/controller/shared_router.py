"""What an LLMDeployment and the LLMRouter that serves it mean to each other. Pure.

The LLMDeployment has no router of its own then: its RouterReady is the LLMRouter's. A router that it had before goes only when
the LLMRouter takes requests, so that a name written wrong takes nothing away.
"""

from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.api.v1alpha1 import LLMRouterSpec
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.planning import sharing


def verdict(observed: Observed) -> Verdict:
    """RouterReady of an LLMDeployment that names an LLMRouter."""
    name = observed.router_ref
    if observed.router is None:
        return Verdict(
            status="False",
            reason=conditions.ROUTER_NOT_FOUND,
            message=f"There is no LLMRouter {name} in the namespace {observed.namespace}. Create it, or correct "
            "spec.routerRef.name; without spec.routerRef the LLMDeployment gets a router of its own.",
        )
    found = _router_ready(observed.router)
    if found is None:
        return Verdict(
            status="False",
            reason=conditions.CREATING,
            message=f"LLMRouter {name} has no status yet. Where this lasts, the controller's log says why.",
        )
    return Verdict(status=found["status"], reason=found["reason"], message=f"LLMRouter {name}: {found['message']}")


def takes_over(observed: Observed) -> bool:
    """Whether a router of the LLMDeployment's own may go.

    One of the LLMRouter's own name goes first: it has the Service and the Deployment that the LLMRouter needs.
    """
    if observed.router is None:
        return False
    return observed.router_ref == observed.name or (_router_ready(observed.router) or {}).get("status") == "True"


def max_in_flight(observed: Observed) -> int | None:
    """What the LLMRouter gives to a replica at once, where it says so."""
    found = ((observed.router or {}).get("spec") or {}).get("maxInFlight")
    return found if isinstance(found, int) else None


def url(observed: Observed) -> str | None:
    """Where the LLMRouter serves."""
    found = ((observed.router or {}).get("status") or {}).get("url")
    return str(found) if found else None


def members(observed: Observed) -> dict[str, sharing.Member]:
    """Of an LLMRouter: each LLMDeployment that names it, by its name; those going away left out."""
    return {
        one["metadata"]["name"]: sharing.Member(
            one["spec"]["model"].get("servedName") or one["metadata"]["name"],
            tuple(adapter["name"] for adapter in one["spec"]["model"].get("adapters") or ()),
        )
        for one in observed.members
        if "deletionTimestamp" not in one["metadata"]
    }


def models(observed: Observed, spec: LLMRouterSpec) -> list[str]:
    """What requests may give as `model`."""
    return sorted(sharing.share_out(spec.routes, members(observed)))


def routes(observed: Observed, spec: LLMRouterSpec) -> Verdict | None:
    """What a user should know of an LLMRouter that runs: it has nothing to serve, or something that it names is not there."""
    found = members(observed)
    if not found:
        ref = f"{{name: {observed.name}}}"
        message = f"No LLMDeployment of this namespace names this router: set spec.routerRef: {ref} in one."
        return Verdict(status="True", reason=conditions.NO_MODELS, message=message)
    problems = list(sharing.unresolved(spec.routes, found))
    if not problems:
        return None
    return Verdict(status="True", reason=conditions.ROUTES_UNRESOLVED, message=" ".join([*problems, "All else is served."]))


def _router_ready(router: Json) -> Json | None:
    listed = (router.get("status") or {}).get("conditions") or ()
    return next((each for each in listed if each["type"] == conditions.ROUTER_READY), None)
