"""Hugging Face's API: revisions, redirects to another origin, and all the ways in which it refuses."""

import re

import pytest

from e2e.model_store.hub import STRANGER, TOKEN, Hub, Repository
from tests.engine.store.stores import model, needed
from tests.integration.store.fetches import Fetches
from tests.integration.store.proxy import Proxy
from tokenfleet import contract

SOURCE = "hf://org/small"
COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"
FILES = model(weights=3_000_000) | {"chat_template.jinja": b"{{ messages }}", "original/consolidated.00.pth": b"again"}
NEEDED = {path: data for path, data in needed(FILES).items() if not path.startswith("original/")}


@pytest.mark.parametrize(
    "revision",
    [
        pytest.param(None, id="no revision"),
        pytest.param(COMMIT, id="a commit"),
        pytest.param("v1.0", id="a tag"),
        pytest.param("refs/pr/1", id="a reference with slashes"),
    ],
)
def test_a_model_is_fetched_by_the_commit_of_its_revision(revision: str | None, hub: Hub, fetches: Fetches) -> None:
    hub.repositories["org/small"] = Repository(FILES, COMMIT, ("main", "v1.0", "refs/pr/1"), gated=True)
    source = SOURCE if revision is None else f"{SOURCE}@{revision}"
    said = fetches.run("--piece", "1", source, environment=hub.environment(token=TOKEN)).succeeded()
    assert fetches.content(SOURCE, revision) == NEEDED
    assert f"{SOURCE} is at revision {COMMIT}" in said
    assert ("pin it by spec.model.revision" in said) is (revision != COMMIT)
    assert "verified 5 files: 3 by git-sha1, 2 by sha256" in said
    assert TOKEN not in said
    asked = [request for request in hub.requests if request.origin == "cdn"]
    assert len(asked) == 6, "each weight file in three ranges"
    assert not any(request.authorized for request in asked), "the token stays with the hub"
    if revision is not None:
        count = len(hub.requests)
        fetches.run(source, environment=hub.environment(token=TOKEN)).succeeded()
        asked_again = [request.path for request in hub.requests[count:]]
        assert asked_again == ([] if revision == COMMIT else [f"/api/models/org/small/revision/{revision}"])


@pytest.mark.parametrize(
    ("repository", "source", "token", "reason", "message"),
    [
        pytest.param(Repository(FILES, COMMIT, gated=True), SOURCE, None, contract.REASON_MODEL_ACCESS_DENIED,
                     "is gated: accept its licence at .*/org/small and set HF_TOKEN", id="gated, no token"),
        pytest.param(Repository(FILES, COMMIT, gated=True), SOURCE, STRANGER, contract.REASON_MODEL_ACCESS_DENIED,
                     "accept its licence at .* with the account that HF_TOKEN belongs to", id="gated, licence not accepted"),
        pytest.param(Repository(FILES, COMMIT), SOURCE, "hf_wrong", contract.REASON_MODEL_ACCESS_DENIED,
                     r"refuses the token .*\(401\): HF_TOKEN in the credentials Secret is wrong", id="a wrong token"),
        pytest.param(Repository(FILES, COMMIT, private=True), SOURCE, None, contract.REASON_MODEL_ACCESS_DENIED,
                     "its name is wrong, or it is private and HF_TOKEN is missing", id="private or missing, no token"),
        pytest.param(Repository(FILES, COMMIT), "hf://org/other", TOKEN, contract.REASON_MODEL_NOT_FOUND,
                     "has no model org/other: is the name right", id="missing"),
        pytest.param(Repository(FILES, COMMIT), f"{SOURCE}@v9", TOKEN, contract.REASON_MODEL_NOT_FOUND,
                     "hf://org/small has no revision v9: it is a commit, a branch or a tag", id="no such revision"),
        pytest.param(Repository({"README.md": b"#"}, COMMIT), SOURCE, TOKEN, contract.REASON_MODEL_INVALID,
                     "no config.json", id="no model"),
    ],
)  # fmt: skip
def test_why_a_model_cannot_be_had(
    repository: Repository, source: str, token: str | None, reason: str, message: str, hub: Hub, fetches: Fetches
) -> None:
    hub.repositories["org/small"] = repository
    outcome = fetches.run(source, environment=hub.environment(token=token))
    assert re.search(message, outcome.failed(reason)), outcome.note
    assert token is None or token not in outcome.error + outcome.out


def test_a_hub_that_is_busy_is_left_alone_as_long_as_it_asks_for(hub: Hub, fetches: Fetches) -> None:
    hub.repositories["org/small"] = Repository(FILES, COMMIT)
    busy = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with Proxy(hub.port, answer=busy, answers=2) as proxy:
        said = fetches.run(SOURCE, environment=hub.environment(port=proxy.port)).succeeded()
    assert "answers 429; trying again" in said
    assert fetches.content(SOURCE) == NEEDED


def test_a_hub_that_is_gone_leaves_what_is_there(hub: Hub, fetches: Fetches) -> None:
    hub.repositories["org/small"] = Repository(FILES, COMMIT)
    fetches.run(SOURCE, environment=hub.environment()).succeeded()
    fetches.run(f"{SOURCE}@{COMMIT}", environment=hub.environment()).succeeded()
    gone = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    said = fetches.run("--patience", "1", SOURCE, environment=gone).succeeded()
    assert "warning: hf://org/small starts from the cache" in said
    assert "warning" not in fetches.run(f"{SOURCE}@{COMMIT}", environment=gone).succeeded()
    message = fetches.run("--patience", "1", f"{SOURCE}@{'1' * 40}", environment=gone).failed(
        contract.REASON_MODEL_STORE_UNREACHABLE
    )
    assert "127.0.0.1:9" in message


def test_a_name_that_dns_does_not_know_is_said(fetches: Fetches) -> None:
    unknown = {"HF_ENDPOINT": "http://hub.invalid"}
    message = fetches.run("--patience", "1", SOURCE, environment=unknown).failed(contract.REASON_MODEL_STORE_UNREACHABLE)
    assert "hub.invalid" in message
