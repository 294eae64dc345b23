"""S3 and Google Cloud Storage as real servers: digests as revisions, checksums of all kinds, and all the ways to be refused."""

import re
import time

import pytest

from tests.engine.store.stores import model, needed, safetensors
from tests.integration.store.fetches import Fetches
from tests.integration.store.programs import GoogleServer, S3Gateway
from tests.integration.store.proxy import Proxy
from tests.integration.store.token_server import token_server
from tokenfleet import contract

FILES = model(weights=6_000_000)
PINNED = re.compile(r"pin it by spec\.model\.revision: (sha256:[0-9a-f]{64})")


def test_a_model_in_s3_is_fetched_and_pinned(s3: S3Gateway, fetches: Fetches) -> None:
    s3.put("whole/small", FILES)
    said = fetches.run("--piece", "1", "s3://models/whole/small", environment=s3.environment()).succeeded()
    assert fetches.content("s3://models/whole/small") == needed(FILES)
    assert "verified 4 files: 4 by md5" in said
    found = PINNED.search(said)
    assert found is not None
    revision = found[1]
    pinned = f"s3://models/whole/small@{revision}"
    assert "files at sha256:" in fetches.run(pinned, environment=s3.environment()).succeeded()
    assert fetches.content("s3://models/whole/small", revision) == needed(FILES)
    gone = {**s3.environment(), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    began = time.monotonic()
    assert "is complete at" in fetches.run(pinned, environment=gone).succeeded()
    assert time.monotonic() - began < 10, "nobody is asked"
    s3.put("whole/small", {"tokenizer.json": b'{"changed": true}'})
    (fetches.destination("s3://models/whole/small", revision)).unlink()
    message = fetches.run(pinned, environment=s3.environment()).failed(contract.REASON_MODEL_INVALID)
    assert f"{revision} was asked for" in message
    assert len(set(re.findall(r"sha256:[0-9a-f]{64}", message))) == 2


def test_what_was_uploaded_in_parts_is_verified_by_them_where_they_are_even(s3: S3Gateway, fetches: Fetches) -> None:
    s3.put("parts/small", FILES)
    even, uneven = FILES["model-0.safetensors"], FILES["model-1.safetensors"] + bytes(6_000_000)
    uneven = safetensors(uneven)
    s3.put_in_parts("parts/small/model-0.safetensors", [even[: 5 << 20], even[5 << 20 :]])
    s3.put_in_parts("parts/small/model-1.safetensors", [uneven[: 6 << 20], uneven[6 << 20 : 11 << 20], uneven[11 << 20 :]])
    said = fetches.run("s3://models/parts/small", environment=s3.environment()).succeeded()
    expected = needed(FILES) | {"model-1.safetensors": uneven}
    assert fetches.content("s3://models/parts/small") == expected
    assert "verified 4 files: 2 by md5, 1 by md5-parts, 1 by size and safetensors header" in said


def test_a_model_in_google_storage_is_fetched(gcs: GoogleServer, fetches: Fetches) -> None:
    gcs.put("whole/small", FILES)
    said = fetches.run("--piece", "1", "gs://models/whole/small", environment=gcs.environment()).succeeded()
    assert fetches.content("gs://models/whole/small") == needed(FILES)
    assert "verified 4 files: 4 by md5" in said
    found = PINNED.search(said)
    assert found is not None
    pinned = f"gs://models/whole/small@{found[1]}"
    fetches.run(pinned, environment=gcs.environment()).succeeded()
    assert fetches.destination("gs://models/whole/small", found[1]).is_dir()
    other = f"gs://models/whole/small@sha256:{'0' * 64}"
    assert found[1] in fetches.run(other, environment=gcs.environment()).failed(contract.REASON_MODEL_INVALID)


@pytest.mark.parametrize(
    ("source", "changes", "reason", "message"),
    [
        pytest.param("s3://models/x", {"AWS_SECRET_ACCESS_KEY": "wrong"}, contract.REASON_MODEL_ACCESS_DENIED,
                     r"refuses s3://models/x \(403 SignatureDoesNotMatch\): check AWS_ACCESS_KEY_ID", id="a wrong secret"),
        pytest.param("s3://models/x", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
                     contract.REASON_MODEL_ACCESS_DENIED, r"\(403 .*\): set AWS_ACCESS_KEY_ID", id="no credentials"),
        pytest.param("s3://models/nothing", {}, contract.REASON_MODEL_NOT_FOUND,
                     "nothing below s3://models/nothing/: bucket models has no such prefix", id="an empty prefix"),
        pytest.param("s3://other-bucket/x", {}, contract.REASON_MODEL_NOT_FOUND, "has no bucket other-bucket", id="no bucket"),
        pytest.param("s3://models/readme", {}, contract.REASON_MODEL_INVALID, "no config.json.*README.md", id="no model"),
        pytest.param("s3://models/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, contract.REASON_MODEL_STORE_UNREACHABLE,
                     "127.0.0.1:9 is out of reach", id="nobody there"),
    ],
)  # fmt: skip
def test_why_s3_has_no_model(
    source: str, changes: dict[str, str], reason: str, message: str, s3: S3Gateway, fetches: Fetches
) -> None:
    s3.put("readme", {"README.md": b"#"})
    environment = {name: value for name, value in {**s3.environment(), **changes}.items() if value}
    outcome = fetches.run("--patience", "1", source, environment=environment)
    assert re.search(message, outcome.failed(reason)), outcome.note
    assert not list(fetches.cache.glob("*")), "nothing is left that looks like a model"


@pytest.mark.parametrize(
    ("source", "status", "reason", "message"),
    [
        pytest.param("gs://models/nothing", None, contract.REASON_MODEL_NOT_FOUND,
                     "nothing below gs://models/nothing/", id="an empty prefix"),
        pytest.param("gs://other-bucket/x", None, contract.REASON_MODEL_NOT_FOUND,
                     "has no bucket other-bucket", id="no bucket"),
        pytest.param("gs://models/x", "401 Unauthorized", contract.REASON_MODEL_ACCESS_DENIED,
                     r"refuses gs://models/x \(401\): set GOOGLE_CREDENTIALS", id="not public"),
        pytest.param("gs://models/x", "403 Forbidden", contract.REASON_MODEL_ACCESS_DENIED, r"\(403\)", id="forbidden"),
        pytest.param("gs://models/x", "503 Service Unavailable", contract.REASON_MODEL_STORE_UNREACHABLE,
                     "answers 503 Service Unavailable", id="out of order"),
    ],
)  # fmt: skip
def test_why_google_storage_has_no_model(
    source: str, status: str | None, reason: str, message: str, gcs: GoogleServer, fetches: Fetches
) -> None:
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    with Proxy(gcs.port, answer=answer, answers=1000 if status else 0) as proxy:
        outcome = fetches.run("--patience", "1", source, environment=gcs.environment(port=proxy.port))
    assert re.search(message, outcome.failed(reason)), outcome.note


def test_a_service_accounts_key_is_exchanged_for_a_token(gcs: GoogleServer, fetches: Fetches) -> None:
    gcs.put("whole/small", FILES)
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with token_server(good=True) as key:
        fetches.run("gs://models/whole/small", environment=gcs.environment(credentials=key)).succeeded()
        with Proxy(gcs.port, answer=refusal, answers=1) as proxy:
            environment = gcs.environment(port=proxy.port, credentials=key)
            message = fetches.run("gs://models/x", environment=environment).failed(contract.REASON_MODEL_ACCESS_DENIED)
    assert "give reader@tests.iam.gserviceaccount.com the role Storage Object Viewer" in message


def test_a_service_accounts_key_that_was_revoked_is_said_to_be_of_no_use(gcs: GoogleServer, fetches: Fetches) -> None:
    with token_server(good=False) as key:
        outcome = fetches.run("gs://models/x", environment=gcs.environment(credentials=key))
    message = outcome.failed(contract.REASON_MODEL_ACCESS_DENIED)
    assert message == "Google gives no token for the credentials: invalid_grant: Invalid JWT Signature."
    assert "PRIVATE KEY" not in outcome.out + outcome.error


def test_credentials_that_are_none_are_refused_without_being_shown(gcs: GoogleServer, fetches: Fetches) -> None:
    environment = {**gcs.environment(), "GOOGLE_CREDENTIALS": "the-secret-itself"}
    outcome = fetches.run("gs://models/x", environment=environment)
    assert "is not JSON" in outcome.failed(contract.REASON_MODEL_ACCESS_DENIED)
    assert "the-secret-itself" not in outcome.error + outcome.out
