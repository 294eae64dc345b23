"""Spans: what they say, whose children they are, and that a real exporter sends them without holding anything up."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.router.harness import answer, fleet, post
from tests.router.records import record
from tokenfleet.router.reporting.record import Record
from tokenfleet.router.reporting.setup import Reporting
from tokenfleet.router.reporting.tracing import Tracing, otlp, wanted

TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW = 1_790_000_000_000_000_000


def spans(*records: Record) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), clock=lambda: NOW)
    for one in records:
        tracing.ended(one)
    return list(exporter.get_finished_spans())


def test_a_span_says_what_the_request_was_and_when() -> None:
    (span,) = spans(record())
    assert (span.name, span.kind, span.parent) == ("POST /v1/chat/completions", SpanKind.SERVER, None)
    assert (span.start_time, span.end_time) == (NOW - 1_500_000_000, NOW)
    assert [(event.name, event.timestamp) for event in span.events] == [("first_byte", NOW - 1_250_000_000)]
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.request.model": "llama",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        "tokenfleet.request_id": "00000000000000010000000000000002",
        "tokenfleet.key": "ann",
        "tokenfleet.reason": "relayed",
        "tokenfleet.replica": "engine-0",
        "tokenfleet.tries": 1,
    }


def test_it_is_a_child_of_the_callers_span() -> None:
    (span,) = spans(record(traceparent=TRACEPARENT))
    assert span.parent is not None
    assert span.parent.is_remote
    assert f"{span.parent.trace_id:032x}" == f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("traceparent", "count"),
    [
        pytest.param(TRACEPARENT[:-1] + b"0", 0, id="a caller that does not sample is not sampled"),
        pytest.param(b"nonsense", 1, id="what is no traceparent is none"),
        pytest.param(b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", 1, id="nor is one that names no trace"),
        pytest.param(TRACEPARENT + b"-what-a-later-version-adds", 1, id="later versions may be longer"),
    ],
)
def test_the_callers_choice_holds(traceparent: bytes, count: int) -> None:
    assert len(spans(record(traceparent=traceparent))) == count


def test_waits_are_spans_of_their_own_within_it() -> None:
    queue, prefill, whole = spans(record(queued=0.5, prefilled=0.25))
    begin = NOW - 1_500_000_000
    assert (queue.name, queue.start_time, queue.end_time) == ("queue", begin, begin + 500_000_000)
    assert (prefill.name, prefill.start_time, prefill.end_time) == ("prefill", begin + 500_000_000, begin + 750_000_000)
    assert queue.parent is not None
    assert queue.parent.span_id == whole.context.span_id


@pytest.mark.parametrize(
    ("code", "reason", "error", "kind"),
    [
        pytest.param(503, "queue_full", True, "queue_full", id="our fault"),
        pytest.param(200, "truncated", True, None, id="a cut answer"),
        pytest.param(429, "requests_limited", False, None, id="the caller's own limit is no fault of the server"),
    ],
)
def test_what_went_wrong_is_marked(code: int, reason: str, error: bool, kind: str | None) -> None:
    (span,) = spans(record(code=code, reason=reason))
    assert (span.status.status_code is StatusCode.ERROR) == error
    assert (span.attributes or {}).get("error.type") == kind


def test_what_was_refused_before_it_had_a_model_has_no_span() -> None:
    assert spans(record(model="", code=404, reason="unknown_path")) == []


def test_the_service_has_a_name_of_ours_unless_the_environment_gives_it_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spans(record())[0].resource.attributes["service.name"] == "tokenfleet-router"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    assert spans(record())[0].resource.attributes["service.name"] == "edge"


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        pytest.param({}, False, id="nothing is set"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, True, id="an endpoint"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, True, id="one for traces alone"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_SDK_DISABLED": "true"}, False, id="switched off"),
    ],
)
def test_it_is_wanted_where_spans_have_anywhere_to_go(environment: dict[str, str], want: bool) -> None:
    assert wanted(environment) is want


def test_without_an_endpoint_nothing_that_makes_or_sends_spans_is_loaded() -> None:
    names = "('opentelemetry.sdk.trace', 'opentelemetry.exporter')"
    code = f"import sys, tokenfleet.router.main; sys.exit(any(name.startswith({names}) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- To a collector


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()
        server.server_close()


async def test_a_routers_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (address, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        async with fleet(answer) as (front, (engine,)):
            reporting = Reporting(front.shared, environment=os.environ)
            header = f"traceparent: {TRACEPARENT.decode()}\r\n"
            assert (await front.ask(post(headers=header))).status == 200
            assert engine.calls[0].headers["traceparent"] == TRACEPARENT.decode()
            reporting.close()
    scopes = [scope for request in received for resource in request.resource_spans for scope in resource.scope_spans]
    (span,) = [span for scope in scopes for span in scope.spans]
    assert (span.name, span.trace_id.hex()) == ("POST /v1/chat/completions", "0af7651916cd43dd8448eb211c80319c")


def test_a_collector_that_is_away_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracing = Tracing(otlp())
    for _ in range(5000):
        tracing.ended(record())
    tracing.close(seconds=0.05)
