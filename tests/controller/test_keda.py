"""KEDA's external scaler as KEDA's client calls it: real gRPC, and messages written by hand as the protocol has them."""

import asyncio
import contextlib
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.router.harness import until
from tokenfleet import contract
from tokenfleet.controller.actuators import keda
from tokenfleet.controller.actuators.gauges import LoadGauges
from tokenfleet.controller.observed import Load
from tokenfleet.controller.store import Key

PLACE: Key = (contract.KIND, "models", "llama")


def text(number: int, value: str) -> bytes:
    """A field of text, as protobuf has it on the wire; all of ours are short."""
    data = value.encode()
    return bytes([number << 3 | 2, len(data)]) + data


def reference(**metadata: str) -> bytes:
    """ScaledObjectRef: name 1, namespace 2, scalerMetadata 3 (a map: key 1, value 2)."""
    pairs = (text(1, name) + text(2, value) for name, value in metadata.items())
    return text(1, "llama") + text(2, "models") + b"".join(bytes([3 << 3 | 2, len(pair)]) + pair for pair in pairs)


def request(metric: str, **metadata: str) -> bytes:
    """GetMetricsRequest: scaledObjectRef 1, metricName 2."""
    inner = reference(**metadata)
    return bytes([1 << 3 | 2, len(inner)]) + inner + text(2, metric)


def numbered(metric: str, value: int) -> bytes:
    """MetricSpec and MetricValue alike: the name 1, a whole number 2, a double 3; once, in field 1 of the answer."""
    number = bytes([2 << 3, value]) if value else b""
    double = bytes([3 << 3 | 1]) + struct.pack("<d", value) if value else b""
    inner = text(1, metric) + number + double
    return bytes([1 << 3 | 2, len(inner)]) + inner


ACTIVE, INACTIVE = b"\x08\x01", b""
FULL = {"deployment": "llama", "queueDepth": "5", "concurrency": "51"}


class World:
    """A scaler that is served, and a client that knows nothing but bytes."""

    def __init__(self, scaler: keda.ExternalScaler, channel: Any, loads: dict[Key, Load]) -> None:
        self.scaler, self.loads, self._channel = scaler, loads, channel

    async def call(self, method: str, body: bytes) -> bytes:
        return bytes(await self._channel.unary_unary(f"/externalscaler.ExternalScaler/{method}")(body, timeout=5))

    def stream(self, body: bytes) -> Any:
        return self._channel.unary_stream("/externalscaler.ExternalScaler/StreamIsActive")(body, timeout=5)

    def tell(self, load: Load | None) -> None:
        if load is None:
            self.loads.pop(PLACE, None)
        else:
            self.loads[PLACE] = load
        self.scaler.changed("models", "llama")


@contextlib.asynccontextmanager
async def world(load: Load | None, tmp_path: Any) -> AsyncIterator[World]:
    loads = {} if load is None else {PLACE: load}
    scaler = keda.ExternalScaler(LoadGauges(loads.get))
    address = f"unix:{tmp_path}/keda.sock"
    server = await keda.serve(scaler, address=address)
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield World(scaler, channel, loads)
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("load", "answer"),
    [
        pytest.param(Load(complete=True, waiting=1), ACTIVE, id="a request waits"),
        pytest.param(Load(complete=True, in_flight={"a": 1}), ACTIVE, id="a replica has one"),
        pytest.param(Load(complete=True, in_flight={"a": 0}), INACTIVE, id="nothing to do"),
    ],
)
async def test_whether_it_is_active(tmp_path: Any, load: Load, answer: bytes) -> None:
    async with world(load, tmp_path) as keda_world:
        assert await keda_world.call("IsActive", reference(deployment="llama")) == answer


async def test_the_targets_are_those_of_the_trigger(tmp_path: Any) -> None:
    async with world(Load(complete=True), tmp_path) as keda_world:
        specs = await keda_world.call("GetMetricSpec", reference(**FULL))
    assert specs == numbered("tokenfleet_queue_depth", 5) + numbered("tokenfleet_in_flight", 51)


@pytest.mark.parametrize(
    ("metric", "value"),
    [pytest.param("tokenfleet_queue_depth", 7, id="waiting"), pytest.param("tokenfleet_in_flight", 3, id="in flight")],
)
async def test_the_values_are_the_load(tmp_path: Any, metric: str, value: int) -> None:
    async with world(Load(complete=True, waiting=7, in_flight={"a": 1, "b": 2}), tmp_path) as keda_world:
        assert await keda_world.call("GetMetrics", request(metric, **FULL)) == numbered(metric, value)
        keda_world.tell(Load(complete=True))
        assert await keda_world.call("GetMetrics", request(metric, **FULL)) == numbered(metric, 0)


@pytest.mark.parametrize(
    ("method", "body", "code", "words"),
    [
        pytest.param("IsActive", reference(**FULL), "UNAVAILABLE", "models/llama is not known", id="activity, router silent"),
        pytest.param(
            "GetMetrics",
            request("tokenfleet_queue_depth", **FULL),
            "UNAVAILABLE",
            "models/llama is not known",
            id="a metric, router silent",
        ),
        pytest.param("GetMetrics", request("s0-x", **FULL), "NOT_FOUND", "no metric 's0-x'", id="no such metric"),
        pytest.param("IsActive", reference(), "INVALID_ARGUMENT", "no deployment in its metadata", id="no deployment named"),
        pytest.param("GetMetricSpec", reference(), "INVALID_ARGUMENT", "no deployment", id="targets of no deployment"),
        pytest.param(
            "GetMetricSpec",
            reference(deployment="llama", queueDepth="five", concurrency="1"),
            "INVALID_ARGUMENT",
            "queueDepth='five'",
            id="a target that is no number",
        ),
        pytest.param(
            "GetMetricSpec",
            reference(deployment="llama", queueDepth="5", concurrency="0"),
            "INVALID_ARGUMENT",
            "concurrency='0'",
            id="a target that nothing meets",
        ),
        pytest.param("StreamMetricSpec", reference(**FULL), "UNIMPLEMENTED", "", id="a method that KEDA does without"),
    ],
)
@pytest.mark.parametrize("load", [pytest.param(None, id="never heard"), pytest.param(Load(complete=False), id="stale")])
async def test_what_cannot_be_said_is_an_error(
    tmp_path: Any, load: Load | None, method: str, body: bytes, code: str, words: str
) -> None:
    async with world(load, tmp_path) as keda_world:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await keda_world.call(method, body)
    assert failure.value.code().name == code
    assert words in (failure.value.details() or "")


async def test_a_stream_without_a_deployment_ends_with_the_reason(tmp_path: Any) -> None:
    async with world(Load(complete=True), tmp_path) as keda_world:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await keda_world.stream(reference()).read()
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_work_that_begins_is_pushed_and_only_that(tmp_path: Any) -> None:
    async with world(Load(complete=True), tmp_path) as keda_world:
        stream = keda_world.stream(reference(**FULL))
        assert await stream.read() == INACTIVE
        keda_world.tell(Load(complete=True, waiting=1))
        assert await stream.read() == ACTIVE
        later = asyncio.create_task(stream.read())
        for load in (Load(complete=True, waiting=2), None, Load(complete=False), Load(complete=True)):
            keda_world.tell(load)
            done, _ = await asyncio.wait({later}, timeout=0.02)
            assert not done, "more work, silence, and the end of work are not pushed"
        keda_world.tell(Load(complete=True, in_flight={"a": 1}))
        assert await later == ACTIVE
        stream.cancel()


async def test_a_stream_says_nothing_until_something_is_known(tmp_path: Any) -> None:
    async with world(None, tmp_path) as keda_world:
        stream = keda_world.stream(reference(**FULL))
        first = asyncio.create_task(stream.read())
        done, _ = await asyncio.wait({first}, timeout=0.05)
        assert not done
        keda_world.tell(Load(complete=True))
        assert await first == INACTIVE
        stream.cancel()


async def test_streams_that_end_are_forgotten(tmp_path: Any) -> None:
    async with world(Load(complete=True), tmp_path) as keda_world:
        streams = [keda_world.stream(reference(**FULL)) for _ in range(3)]
        for stream in streams:
            await stream.read()
        assert len(keda_world.scaler._streams["models", "llama"]) == 3
        for stream in streams:
            stream.cancel()
        await until(lambda: not keda_world.scaler._streams)


async def test_an_address_that_cannot_be_had_is_told() -> None:
    scaler = keda.ExternalScaler(LoadGauges(lambda _: None))
    with pytest.raises(OSError, match="nowhere"):
        await keda.serve(scaler, address="nowhere.invalid:1")


def test_a_controller_without_keda_does_not_load_grpc() -> None:
    program = "import sys, tokenfleet.controller.main as _; print(*{'grpc', 'google.protobuf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
