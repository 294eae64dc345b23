"""KEDA's external scaler: whether an LLMDeployment has work, and how much, over gRPC.

A trigger of a ScaledObject names the LLMDeployment and its targets in its metadata. KEDA asks every pollingInterval; what
cannot wait, a request for a model that had none, is pushed to the streams that KEDA keeps open. A load that is not known is
UNAVAILABLE, never 0, and KEDA then leaves the count as it is. Imported only where KEDA is on: gRPC takes 20 MB.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from tokenfleet import contract
from tokenfleet.controller.actuators import gauges as names
from tokenfleet.controller.actuators import keda_protocol as protocol
from tokenfleet.controller.actuators.gauges import Gauges

logger = logging.getLogger(__name__)

METADATA_DEPLOYMENT: Final = "deployment"
METADATA_TARGETS: Final = {
    contract.EXTERNAL_METRIC_QUEUE_DEPTH: "queueDepth",
    contract.EXTERNAL_METRIC_IN_FLIGHT: "concurrency",
}
"""By metric, where a trigger's metadata has its target: this many for each replica."""
_OPTIONS: Final = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 65_536))
_Place = tuple[str, str]


class Unanswerable(Exception):
    """What is asked cannot be said; with gRPC's code for it."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class ExternalScaler:
    """The service. `changed` is told when an LLMDeployment's load may have."""

    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges
        self._streams: dict[_Place, set[asyncio.Event]] = {}

    def changed(self, namespace: str, name: str) -> None:
        for stream in self._streams.get((namespace, name), ()):
            stream.set()

    async def is_active(self, ref: Any) -> Any:
        place = _place(ref)
        active = self._active(place)
        if active is None:
            raise Unanswerable(grpc.StatusCode.UNAVAILABLE, names.unknown(*place))
        return protocol.IsActiveResponse(result=active)

    async def stream_is_active(self, ref: Any) -> AsyncIterator[Any]:
        """What is so now, and from then on each time that work begins; that there is none any more, KEDA asks for itself."""
        place, told = _place(ref), None
        changed = asyncio.Event()
        self._streams.setdefault(place, set()).add(changed)
        try:
            while True:
                active = self._active(place)
                if active is not None and (active or told is None) and active != told:
                    yield protocol.IsActiveResponse(result=active)
                told = told if active is None else active
                await changed.wait()
                changed.clear()
        finally:
            self._streams[place].discard(changed)
            if not self._streams[place]:
                del self._streams[place]

    async def get_metric_spec(self, ref: Any) -> Any:
        _place(ref)
        targets = {metric: _target(ref, field) for metric, field in METADATA_TARGETS.items()}
        return protocol.GetMetricSpecResponse(
            metricSpecs=[
                protocol.MetricSpec(metricName=metric, targetSize=target, targetSizeFloat=target)
                for metric, target in targets.items()
            ]
        )

    async def get_metrics(self, request: Any) -> Any:
        place, metric = _place(request.scaledObjectRef), request.metricName
        if (gauge := names.METRICS.get(metric)) is None:
            raise Unanswerable(grpc.StatusCode.NOT_FOUND, f"There is no metric {metric!r}; there are {sorted(names.METRICS)}.")
        if (value := gauge(self._gauges, *place)) is None:
            raise Unanswerable(grpc.StatusCode.UNAVAILABLE, names.unknown(*place))
        values = [protocol.MetricValue(metricName=metric, metricValue=value, metricValueFloat=value)]
        return protocol.GetMetricsResponse(metricValues=values)

    def _active(self, place: _Place) -> bool | None:
        """Whether it has anything to do: a request waits, or a replica has one."""
        counts = [gauge(self._gauges, *place) for gauge in names.METRICS.values()]
        if any(counts):
            return True
        return None if None in counts else False


def _place(ref: Any) -> _Place:
    """Namespace and name of the LLMDeployment. KEDA fills in the ScaledObject's own namespace, so none reaches into another."""
    name = ref.scalerMetadata.get(METADATA_DEPLOYMENT, "")
    if not name or not ref.namespace:
        raise Unanswerable(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"The trigger of ScaledObject {ref.namespace}/{ref.name} has no {METADATA_DEPLOYMENT} in its metadata: name the "
            "LLMDeployment there.",
        )
    return ref.namespace, name


def _target(ref: Any, field: str) -> int:
    text = ref.scalerMetadata.get(field, "")
    if not text.isdecimal() or int(text) < 1:
        raise Unanswerable(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"The trigger of ScaledObject {ref.namespace}/{ref.name} has {field}={text!r} in its metadata: a whole number "
            "from 1 is needed, as a string.",
        )
    return int(text)


def _unary(method: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
    async def answer(message: Any, context: Any) -> Any:
        try:
            return await method(message)
        except Unanswerable as error:
            await context.abort(error.code, error.message)

    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=request.FromString, response_serializer=lambda message: message.SerializeToString()
    )


def _stream(method: Callable[[Any], AsyncIterator[Any]], request: Any) -> Any:
    async def answer(message: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for each in method(message):
                yield each
        except Unanswerable as error:
            await context.abort(error.code, error.message)

    return grpc.unary_stream_rpc_method_handler(
        answer, request_deserializer=request.FromString, response_serializer=lambda message: message.SerializeToString()
    )


async def serve(scaler: ExternalScaler, *, address: str) -> Any:
    """Serve until the result's `stop` is awaited. address: host:port. Raises OSError where it is taken."""
    server = grpc.aio.server(options=_OPTIONS)
    methods = {
        "IsActive": _unary(scaler.is_active, protocol.ScaledObjectRef),
        "StreamIsActive": _stream(scaler.stream_is_active, protocol.ScaledObjectRef),
        "GetMetricSpec": _unary(scaler.get_metric_spec, protocol.ScaledObjectRef),
        "GetMetrics": _unary(scaler.get_metrics, protocol.GetMetricsRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(protocol.SERVICE, methods),))
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"{address}: {error}") from error
    await server.start()
    logger.info("KEDA's external scaler is served at %s.", address)
    return server
