"""A model is inspected where it is: on the hub, in S3 and in Google Cloud Storage, by ranges of its headers alone."""

import re

import pytest

from e2e.model_store.hub import TOKEN, Hub, Repository
from tests.engine.store.stores import model
from tests.integration.store.programs import GoogleServer, S3Gateway
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.inspection.inspect import inspect_source

COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"
FILES = model(weights=3_000_000)
TENSORS = [{"name": "a", "dtype": "U8", "shape": [3_000_000], "count": 2}]


@pytest.fixture(autouse=True)
def _nobody_is_asked_who_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true", "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)


def _set(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_on_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["org/small"] = Repository(FILES, COMMIT, ("main", "v1.0"), gated=True)
    _set(monkeypatch, hub.environment(token=TOKEN))
    document = inspect_source("hf://org/small", revision="v1.0")
    assert (document["revision"], document["tensors"], document["files"]) == (COMMIT, TENSORS, 2)
    ranges = [re.fullmatch(r"bytes=(\d+)-(\d+)", request.range) for request in hub.requests if request.origin == "cdn"]
    assert len(ranges) == 4
    assert sum(int(each[2]) - int(each[1]) + 1 for each in ranges if each) < 500, "of six megabytes"


def test_a_private_model_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["org/small"] = Repository(FILES, COMMIT, private=True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    _set(monkeypatch, hub.environment())
    with pytest.raises(EngineFailure) as refused:
        inspect_source("hf://org/small")
    assert refused.value.reason == contract.REASON_MODEL_ACCESS_DENIED
    assert "HF_TOKEN is missing" in refused.value.message


def test_in_s3(s3: S3Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("inspected/small", FILES)
    _set(monkeypatch, s3.environment())
    document = inspect_source("s3://models/inspected/small")
    assert (document["tensors"], document["files"]) == (TENSORS, 2)
    assert document["revision"].startswith("sha256:")


def test_in_google_cloud_storage(gcs: GoogleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gcs.put("inspected/small", FILES)
    _set(monkeypatch, gcs.environment())
    document = inspect_source("gs://models/inspected/small")
    assert (document["tensors"], document["files"]) == (TENSORS, 2)


def test_a_store_that_is_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {"HF_ENDPOINT": "http://127.0.0.1:9"})
    with pytest.raises(EngineFailure) as refused:
        inspect_source("hf://org/small", seconds=0.5)
    assert refused.value.reason == contract.REASON_MODEL_STORE_UNREACHABLE
