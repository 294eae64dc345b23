"""KEDA's ScaledObjects: made and taken away beside the children, since their kind may not exist in a cluster.

So they are not watched: one is looked at when this process sees its LLMDeployment first, when what is wanted differs from what
was last applied, and now and then. Where KEDA decides no more, its ScaledObject goes before another decides; where it begins
to, the other goes first: the order of the calls in a reconcile.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, Spec
from tokenfleet.controller import shared_router
from tokenfleet.controller.cluster import Refused
from tokenfleet.controller.drift import digest, stamped
from tokenfleet.controller.kinds import SCALED_OBJECT, Kind
from tokenfleet.controller.observed import Json, Observed
from tokenfleet.controller.resources.autoscaling import build_scaled_object
from tokenfleet.controller.store import Key
from tokenfleet.errors import InvalidSpec

AGAIN_SECONDS: Final = 300.0
"""After this, one is looked at anew: someone may have changed or removed it."""
SOON_SECONDS: Final = 30.0
"""Likewise where something keeps KEDA from it."""


class Api(Protocol):
    """What is needed of the API; Cluster has it."""

    async def serves(self, kind: Kind) -> bool: ...
    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None: ...
    async def apply(self, kind: Kind, body: Json, *, uid: str | None) -> Json: ...
    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was there when one was last looked at."""

    applied: str | None
    """Digest of what stands there as we want it; None: nothing does."""
    absent: bool = False
    """There is none of ours at all."""
    until: float
    verdict: Verdict


class ScaledObjects:
    def __init__(self, api: Api, *, scaler: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        """scaler: host:port of the external scaler; None: it is off."""
        self._api, self._scaler, self._clock = api, scaler, clock
        self._seen: dict[Key, _Seen] = {}

    def forget(self, key: Key) -> None:
        """Its LLMDeployment is gone, and the garbage collector takes the ScaledObject."""
        self._seen.pop(key, None)

    async def remove_unwanted(self, key: Key, observed: Observed, spec: Spec | InvalidSpec) -> None:
        """Take it away where KEDA is not to decide. To be called before anything else is made that decides."""
        if not isinstance(spec, LLMDeploymentSpec) or self._wanted(observed, spec) is not None:
            return
        seen = self._seen.get(key)
        before = ((observed.owner.get("status") or {}).get("scaling") or {}).get("actuator")
        if before != "KEDA" if seen is None else seen.absent:
            return
        live = await self._api.get(SCALED_OBJECT, observed.namespace, observed.name)
        if live is not None and _is_ours(live, observed):
            await self._api.delete(SCALED_OBJECT, observed.namespace, observed.name, uid=live["metadata"]["uid"])
        self._seen[key] = _Seen(applied=None, absent=True, until=0.0, verdict=_good("KEDA decides nothing here."))

    async def apply_wanted(self, key: Key, observed: Observed, spec: Spec | InvalidSpec) -> tuple[Verdict | None, float | None]:
        """Make it so where KEDA is to decide. To be called once nothing else is left that decides.

        Returns ScalingReady as far as this tells, None where KEDA does not decide, and the seconds after which to look again.
        Raises ClusterError where it is to be tried again.
        """
        if not isinstance(spec, LLMDeploymentSpec) or (wanted := self._wanted(observed, spec)) is None:
            return None, None
        if self._scaler is None:
            return _bad(conditions.KEDA_NOT_ENABLED, "Set the chart's autoscaling.keda.enabled, or another actuator."), None
        seen, now = self._seen.get(key), self._clock()
        if seen is None or seen.applied != digest(wanted) or now >= seen.until:
            applied, verdict = await self._make(observed, wanted)
            good = applied is not None and verdict.status == "True"
            seen = _Seen(applied=applied, until=now + (AGAIN_SECONDS if good else SOON_SECONDS), verdict=verdict)
            self._seen[key] = seen
        return seen.verdict, max(0.0, seen.until - now)

    def _wanted(self, observed: Observed, spec: LLMDeploymentSpec) -> Json | None:
        wanted = build_scaled_object(observed.owner, spec, shared_router.max_in_flight(observed), scaler=self._scaler or "")
        return None if wanted is None else stamped(wanted)

    async def _make(self, observed: Observed, wanted: Json) -> tuple[str | None, Verdict]:
        """The digest of what stands there now, if it is ours, and what is to be said of it."""
        if not await self._api.serves(SCALED_OBJECT):
            return None, _bad(
                conditions.KEDA_NOT_INSTALLED,
                f"The API server does not know {SCALED_OBJECT.name} of {SCALED_OBJECT.group}. Install KEDA, or set "
                "spec.autoscaling.actuator to Builtin or HPA. The count stays as it is.",
            )
        live = await self._api.get(SCALED_OBJECT, observed.namespace, observed.name)
        if live is not None and not _is_ours(live, observed):
            return None, _bad(
                conditions.NAME_CONFLICT,
                f"The ScaledObject {observed.name} belongs to someone else and was left as it is. Remove it, or give the "
                "LLMDeployment another name.",
            )
        if live is not None and "deletionTimestamp" in live["metadata"]:
            return None, _bad(conditions.CREATING, f"The ScaledObject {observed.name} is still being deleted.")
        try:
            uid = None if live is None else live["metadata"]["uid"]
            live = await self._api.apply(SCALED_OBJECT, wanted, uid=uid)
        except Refused as error:
            return None, _bad(conditions.REJECTED_BY_API_SERVER, f"The API server refused the ScaledObject: {error}")
        return digest(wanted), _verdict(live)


def _verdict(live: Json) -> Verdict:
    listed = (live.get("status") or {}).get("conditions") or ()
    ready: Json = next((each for each in listed if each.get("type") == "Ready"), {})
    name = live["metadata"]["name"]
    if ready.get("status") != "False":
        return _good(f"KEDA decides, by the ScaledObject {name}.")
    return _bad(conditions.AUTOSCALER_INACTIVE, f"KEDA cannot go by the ScaledObject {name}: {ready.get('message', '')}")


def _is_ours(live: Json, observed: Observed) -> bool:
    references = live["metadata"].get("ownerReferences") or ()
    return any(each.get("controller") and each.get("uid") == observed.uid for each in references)


def _good(message: str) -> Verdict:
    return Verdict(status="True", reason=conditions.AS_EXPECTED, message=message)


def _bad(reason: str, message: str) -> Verdict:
    return Verdict(status="False", reason=reason, message=message)
