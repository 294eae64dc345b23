"""OpenTelemetry spans of requests, sent by OTLP over HTTP. Optional: OpenTelemetry is imported only where an endpoint is set.

A span is made when its request has ended, from its Record, as a child of the span that the request's traceparent names; the
SDK's sampler goes by that parent, and by OTEL_TRACES_SAMPLER where there is none. The engine gets the client's traceparent as
it came, so its spans stand beside the router's, not below. Spans are batched and sent by a thread of the SDK's; where the
collector is away or slow they are dropped, and requests go on.

The rest is set by OpenTelemetry's own environment: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS, ...
"""

import re
import time
from collections.abc import Callable, Mapping
from threading import Thread
from typing import TYPE_CHECKING, Final

from tokenfleet.router.reporting.metrics import ENGINE_ERROR, TRUNCATED
from tokenfleet.router.reporting.record import Record

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE: Final = "tokenfleet-router"
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_CUT: Final = frozenset((ENGINE_ERROR, TRUNCATED))


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether spans have anywhere to go."""
    return any(environment.get(name) for name in _ENDPOINTS) and environment.get("OTEL_SDK_DISABLED", "").lower() != "true"


def otlp() -> "SpanProcessor":
    """To the endpoint that the environment names, in batches."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(OTLPSpanExporter())


class Tracing:
    """A reader of the journal."""

    __slots__ = ("_api", "_clock", "_provider", "_tracer")

    def __init__(self, processor: "SpanProcessor", *, clock: Callable[[], int] = time.time_ns) -> None:
        """clock: nanoseconds since 1970."""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        self._api = trace
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("tokenfleet.router")
        self._clock = clock

    def ended(self, record: Record) -> None:
        """Make its span, and one for each of its waits."""
        if not record.model:
            return  # It was refused before it was a request for anything.
        api, end = self._api, self._clock()
        start = end - round(record.seconds * 1e9)
        span = self._tracer.start_span(
            f"POST {record.path.decode('latin-1')}",
            context=self._parent(record.traceparent),
            kind=api.SpanKind.SERVER,
            attributes=_attributes(record),
            start_time=start,
        )
        if span.is_recording():
            if record.first_byte is not None:
                span.add_event("first_byte", timestamp=start + round(record.first_byte * 1e9))
            if record.code >= 500 or record.reason in _CUT:
                span.set_status(api.StatusCode.ERROR, record.reason)
            at, context = start, api.set_span_in_context(span)
            for name, seconds in (("queue", record.queued), ("prefill", record.prefilled)):
                if seconds:
                    wait = self._tracer.start_span(name, context=context, start_time=at)
                    at += round(seconds * 1e9)
                    wait.end(at)
        span.end(end)

    def close(self, *, seconds: float) -> None:
        """Send what waits, for at most so long. This one waits: it is for the process's end."""
        sending = Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(seconds)

    def _parent(self, traceparent: bytes | None) -> "Context | None":
        match = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
        if match is None:
            return None
        api = self._api
        trace_id, span_id, flags = (int(group, 16) for group in match.groups())
        context = api.SpanContext(trace_id, span_id, is_remote=True, trace_flags=api.TraceFlags(flags))
        parent: Context = api.set_span_in_context(api.NonRecordingSpan(context))
        return parent


def _resource() -> "Resource":
    """This process, by the environment; its service has a name of ours where that gives none."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    found = Resource.create()
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: _SERVICE}))
    return found


def _attributes(record: Record) -> dict[str, str | int]:
    """By OpenTelemetry's semantic conventions, as far as they go."""
    attributes: dict[str, str | int] = {
        "http.request.method": "POST",
        "url.path": record.path.decode("latin-1"),
        "http.response.status_code": record.code,
        "gen_ai.request.model": record.model,
        "tokenfleet.request_id": record.request_id.decode(),
        "tokenfleet.key": record.key,
        "tokenfleet.reason": record.reason,
        "tokenfleet.replica": record.replica,
        "tokenfleet.tries": record.tries,
    }
    if record.prompt_tokens is not None:
        attributes["gen_ai.usage.input_tokens"] = record.prompt_tokens
    if record.completion_tokens is not None:
        attributes["gen_ai.usage.output_tokens"] = record.completion_tokens
    if record.code >= 500:
        attributes["error.type"] = record.reason
    return attributes
