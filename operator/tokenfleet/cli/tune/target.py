"""What an LLMDeployment's own settings mean for a search: one replica, and no more at once than it runs. Pure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tokenfleet.cli.errors import CliError
from tokenfleet.planning.tuning import Search

Json = dict[str, Any]


def is_name(target: str) -> bool:
    return "://" not in target


def check_single(deployment: Json | None) -> None:
    """Raises CliError where requests would be shared by several engines: then nothing is known of one."""
    if deployment is None:
        return
    name = deployment["metadata"]["name"]
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    replicas = status.get("replicas")
    count = replicas if isinstance(replicas, int) else spec.get("replicas", 1)
    if count > 1:
        raise CliError(
            f"{name} has {count} replicas, which share what they get: tune one engine. Either run one replica meanwhile (or a "
            "copy of the LLMDeployment with replicas: 1), or forward a port to one of its pods and give that URL: "
            f"kubectl port-forward pod/{name}-… 8000, then tokenfleet tune batch http://127.0.0.1:8000."
        )
    if not count:
        raise CliError(f"{name} has no replica that runs: start one first.")


def bound_of(search: Search, deployment: Json | None, tell: Callable[[str], None]) -> Search:
    """No more are tried at once than the router gives to a replica: the others would wait in front of it."""
    if deployment is None:
        return search
    spec = deployment.get("spec") or {}
    batching = ((spec.get("engine") or {}).get("batching") or {}).get("maxNumSeqs")
    router = (spec.get("router") or {}).get("maxInFlight")
    bounds = {"spec.engine.batching.maxNumSeqs": batching, "spec.router.maxInFlight": router}
    name, bound = min(
        ((name, value) for name, value in bounds.items() if isinstance(value, int)),
        key=lambda each: each[1],
        default=("", search.most),
    )
    if bound >= search.most:
        return search
    tell(
        f"{deployment['metadata']['name']} runs {bound} at once at most ({name}), so more are not tried: raise it to "
        f"{search.most} before you tune, to see whether more would do."
    )
    return replace(search, most=bound, start=min(search.start, bound))
