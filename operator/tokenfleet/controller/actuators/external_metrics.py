"""external.metrics.k8s.io/v1beta1 over HTTP: discovery, and the two gauges of each LLMDeployment.

GET …/namespaces/NAMESPACE/METRIC?labelSelector=deployment=NAME. Nobody reads a metric without being known by the front proxy
and allowed by the API server; discovery, which tells of nobody's load, is for whoever is known. A gauge that is not known is
503: a HorizontalPodAutoscaler then holds what there is, and says FailedGetExternalMetric. Listening is metrics_server.py's.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from tokenfleet.controller.actuators import gauges as names
from tokenfleet.controller.actuators.access import GROUP, VERSION, Access
from tokenfleet.controller.actuators.front_proxy import Caller, FrontProxy
from tokenfleet.controller.actuators.gauges import Gauges
from tokenfleet.controller.cluster import ClusterError
from tokenfleet.controller.observed import Json

logger = logging.getLogger(__name__)

LABEL: Final = "deployment"
"""By which a metric is asked for: the name of an LLMDeployment of the namespace."""
_REASONS: Final = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 503: "ServiceUnavailable"}
_GROUP_VERSION: Final = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
_API_GROUP: Final[Json] = {
    "kind": "APIGroup",
    "apiVersion": "v1",
    "name": GROUP,
    "versions": [_GROUP_VERSION],
    "preferredVersion": _GROUP_VERSION,
}
_CALLER: Final = web.RequestKey("caller", Caller)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ExternalMetrics:
    """The application; `front_proxy` gives whom to believe now."""

    def __init__(
        self,
        gauges: Gauges,
        access: Access,
        *,
        front_proxy: Callable[[], FrontProxy],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._gauges, self._access, self._front_proxy, self._now = gauges, access, front_proxy, now

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._known])
        root = f"/apis/{GROUP}"
        fixed: dict[str, Json] = {
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_API_GROUP]},
            root: _API_GROUP,
            f"{root}/{VERSION}": _resources(),
            "/openapi/v2": {"swagger": "2.0", "info": {"title": GROUP, "version": VERSION}, "paths": {}},
            "/openapi/v3": {"paths": {}},
        }
        for path, body in fixed.items():
            app.router.add_get(path, _constant(body))
        app.router.add_get(f"{root}/{VERSION}/namespaces/{{namespace}}/{{metric}}", self._metric)
        return app

    @web.middleware
    async def _known(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        caller = self._front_proxy().caller(certificate, request.headers)
        if caller is None:
            return _status(401, "Only the API server may ask here: use kubectl get --raw, or a HorizontalPodAutoscaler.")
        request[_CALLER] = caller
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _status(error.status, f"{request.method} {request.path} is not served: {error.reason}.")

    async def _metric(self, request: web.Request) -> web.StreamResponse:
        namespace, metric = request.match_info["namespace"], request.match_info["metric"]
        try:
            allowed = await self._access.allows(request[_CALLER], namespace=namespace, metric=metric)
        except ClusterError as error:
            logger.warning("Nobody says whether %s may read %s in %s: %s", request[_CALLER].user, metric, namespace, error)
            return _status(503, "The API server does not say whether this is allowed.")
        if not allowed:
            return _status(403, f"User {request[_CALLER].user!r} may not list {metric}.{GROUP} in the namespace {namespace}.")
        gauge = names.METRICS.get(metric)
        if gauge is None:
            return _status(404, f"There is no metric {metric}; there are {', '.join(sorted(names.METRICS))}.")
        name = _deployment(request.query.get("labelSelector", ""))
        if name is None:
            return _status(400, f"labelSelector must name one LLMDeployment: {LABEL}=NAME.")
        value = gauge(self._gauges, namespace, name)
        return _status(503, names.unknown(namespace, name)) if value is None else self._values(metric, name, value)

    def _values(self, metric: str, name: str, value: int) -> web.Response:
        item = {
            "metricName": metric,
            "metricLabels": {LABEL: name},
            "timestamp": f"{self._now():%Y-%m-%dT%H:%M:%SZ}",
            "value": str(value),
        }
        body = {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": [item]}
        return web.json_response(body)


def _resources() -> Json:
    kind = {"singularName": "", "namespaced": True, "kind": "ExternalMetricValueList", "verbs": ["get"]}
    resources = [{"name": name, **kind} for name in names.METRICS]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": resources}


def _constant(body: Json) -> _Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body)

    return answer


def _deployment(selector: str) -> str | None:
    """The name in `deployment=NAME`, which may be written with ==; None for any other selector."""
    key, found, name = selector.replace("==", "=").partition("=")
    return name.strip() if found and key.strip() == LABEL and name.strip() and not set(name) & set("=,!() ") else None


def _status(code: int, message: str) -> web.Response:
    """A failure in the API's own form."""
    reason = _REASONS.get(code, "")
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return web.json_response({**body, "message": message, "reason": reason, "code": code}, status=code)
