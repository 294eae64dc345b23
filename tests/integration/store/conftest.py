"""The stores, each started once; models with a name of their own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.model_store.hub import Hub
from tests.integration.store.fetches import Fetches
from tests.integration.store.programs import GoogleServer, S3Gateway


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Gateway]:
    gateway = S3Gateway(tmp_path_factory.mktemp("s3"))
    yield gateway
    gateway.close()


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleServer]:
    server = GoogleServer(tmp_path_factory.mktemp("gcs"))
    yield server
    server.close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    yield server
    server.close()


@pytest.fixture
def fetches(tmp_path: Path) -> Fetches:
    return Fetches(tmp_path)
