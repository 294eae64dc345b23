"""Which containers' logs are meant. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.cli.errors import Unusable

Json = dict[str, Any]

ROLES: Final = (
    contract.ROLE_ENGINE,
    contract.ROLE_ROUTER,
    contract.ROLE_PREFILL,
    contract.CONTAINER_FETCH,
    contract.ROLE_INSPECTION,
)
_MAIN: Final = (contract.CONTAINER_ENGINE, contract.CONTAINER_ROUTER, contract.CONTAINER_INSPECTION)
"""What a pod is for: its lines need no other name than the pod's."""
_SPAN: Final = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Source:
    """The log of one container, from its start to its end."""

    pod: str
    container: str
    run: str
    """Of one that was started again, another one; empty: it has not started."""
    restarts: int

    @property
    def label(self) -> str:
        return self.pod if self.container in _MAIN else f"{self.pod}/{self.container}"


def selector(name: str, role: str | None, *, router: str | None) -> str:
    """Labels of the pods. router: the LLMRouter whose pods are its routers; None: it has routers of its own."""
    if role == contract.ROLE_ROUTER and router is not None:
        return f"{contract.LABEL_ROUTER}={router},{contract.LABEL_ROLE}={role}"
    chosen = f"{contract.LABEL_DEPLOYMENT}={name}"
    if role is None:
        return chosen
    if role == contract.CONTAINER_FETCH:
        return f"{chosen},{contract.LABEL_ROLE} in ({contract.ROLE_ENGINE},{contract.ROLE_PREFILL})"
    return f"{chosen},{contract.LABEL_ROLE}={role}"


def sources(pods: Iterable[Json], role: str | None) -> list[Source]:
    """Of these pods, in the order in which containers start."""
    found = []
    for pod in sorted(pods, key=lambda one: str(one["metadata"]["name"])):
        status = pod.get("status") or {}
        for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            if _is_meant(one["name"], role):
                run = str(one.get("containerID") or "")
                found.append(Source(pod["metadata"]["name"], one["name"], run, int(one.get("restartCount") or 0)))
    return found


def _is_meant(container: str, role: str | None) -> bool:
    """A role without the download that comes before it, which is a role of its own."""
    return role is None or (container == contract.CONTAINER_FETCH) == (role == contract.CONTAINER_FETCH)


def check_role(role: str | None) -> str | None:
    if role is not None and role not in ROLES:
        raise Unusable(f"--role {role!r} is none: give one of {', '.join(ROLES)}.")
    return role


def parse_span(text: str) -> int:
    """Seconds of 30s, 10m, 2h or 1d."""
    if (match := _SPAN.fullmatch(text)) is None:
        raise Unusable(f"--since {text!r} is no span of time: give one such as 30s, 10m, 2h or 1d.")
    return int(match[1]) * _SECONDS[match[2]]
