"""One admission with its own registry, between a server and a client."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from tests.engine.serving.stand_ins import Client, Server, StandInEngine
from tokenfleet_engine.serving.admission import Admission


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine()


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def make_client(server: Server, engine: StandInEngine, now: list[float], registry: CollectorRegistry) -> Callable[..., Client]:
    """With the bounds that it is given, as the environment's variables."""

    def make(**environment: str) -> Client:
        return Client(Admission(server, engine=engine, environment=environment, registry=registry, clock=lambda: now[0]))

    return make


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()
