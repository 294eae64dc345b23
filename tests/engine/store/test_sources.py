"""What fetch takes for a source, and where it ends up."""

import pytest

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store.sources import parse_source

COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"
DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "url", "revision", "pinned"),
    [
        pytest.param("hf://org/name", "hf://org/name", None, False, id="no revision"),
        pytest.param("hf://org/name@main", "hf://org/name", "main", False, id="a branch may move"),
        pytest.param(f"hf://org/name@{COMMIT}", "hf://org/name", COMMIT, True, id="a commit may not"),
        pytest.param("hf://org/name@feature/x", "hf://org/name", "feature/x", False, id="a branch with a slash"),
        pytest.param("s3://bucket/some/prefix/", "s3://bucket/some/prefix", None, False, id="a slash at the end says nothing"),
        pytest.param(f"s3://bucket/prefix@{DIGEST}", "s3://bucket/prefix", DIGEST, True, id="a digest"),
        pytest.param("gs://bucket", "gs://bucket", None, False, id="a whole bucket"),
    ],
)
def test_what_a_source_says(text: str, url: str, revision: str | None, pinned: bool) -> None:
    source = parse_source(text)
    assert (source.url, source.revision, source.pinned) == (url, revision, pinned)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("org/name", "'org/name' is no source: it begins with one of hf://", id="no scheme"),
        pytest.param("https://huggingface.co/org/name", "begins with one of hf://, s3://, gs://", id="another scheme"),
        pytest.param("pvc://claim/path", "volume that the pod mounts", id="a volume"),
        pytest.param("hf://name", "hf://ORGANISATION/NAME", id="no organisation"),
        pytest.param("hf://org/name/file", "hf://ORGANISATION/NAME", id="a file of a model"),
        pytest.param("hf://org/name@", "a revision belongs behind it", id="an empty revision"),
        pytest.param("s3://", "names no bucket", id="no bucket"),
        pytest.param("s3://bucket/prefix@main", "sha256:<64 hexadecimal digits>", id="a branch of a bucket"),
    ],
)
def test_what_is_no_source(text: str, message: str) -> None:
    with pytest.raises(EngineFailure, match=message) as caught:
        parse_source(text)
    assert caught.value.reason == contract.REASON_ENGINE_CONFIG_INVALID
