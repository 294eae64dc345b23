"""The cache's own promises: links that never dangle by our doing, manifests that nobody has to trust, errors with a fix."""

import errno
import os
import re
import tempfile
from pathlib import Path

import pytest

from tests.engine.store.stores import COMMIT, SOURCE, MemoryStore, destination, fetch, model
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store.cache import Cache, failure_of
from tokenfleet_engine.store.sources import parse_source


@pytest.mark.parametrize(
    ("number", "reason", "message"),
    [
        pytest.param(errno.EACCES, contract.REASON_ENGINE_CONFIG_INVALID,
                     f"cannot be written by uid {os.geteuid()}: it belongs to .*fsGroup: .*chown -R", id="somebody else's"),
        pytest.param(errno.EROFS, contract.REASON_ENGINE_CONFIG_INVALID, "is mounted read-only", id="read-only"),
        pytest.param(errno.EIO, contract.REASON_ENGINE_CONFIG_INVALID, "Input/output error at /cache/x", id="broken"),
        pytest.param(errno.ENOSPC, contract.REASON_DISK_FULL, "is full .*stays for the next start", id="full"),
        pytest.param(errno.EDQUOT, contract.REASON_DISK_FULL, "is full .*a larger claim", id="over its quota"),
    ],
)  # fmt: skip
def test_what_a_failed_write_means(number: int, reason: str, message: str, tmp_path: Path) -> None:
    failure = failure_of(OSError(number, os.strerror(number), "/cache/x"), tmp_path)
    assert failure.reason == reason
    assert re.search(message, failure.message)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda folder: (folder / "config.json").unlink(), id="a file is gone"),
        pytest.param(lambda folder: (folder / "config.json").write_text("{"), id="a file has another size"),
        pytest.param(lambda folder: folder.with_name(f"{folder.name}.json").unlink(), id="the manifest is gone"),
        pytest.param(lambda folder: folder.with_name(f"{folder.name}.json").write_text("{"), id="the manifest is cut off"),
        pytest.param(lambda folder: folder.rename(folder.with_name("moved")), id="the whole folder is gone"),
    ],
)
def test_what_is_damaged_is_not_complete(damage: object, tmp_path: Path) -> None:
    source = parse_source(f"{SOURCE}@{COMMIT}")
    fetch(MemoryStore(model()), tmp_path, f"{SOURCE}@{COMMIT}")
    cache = Cache(tmp_path)
    manifest = cache.current(source, everything=False)
    assert manifest is not None
    folder = destination(tmp_path, f"{SOURCE}@{COMMIT}")
    assert manifest.size == sum((folder / file.path).stat().st_size for file in manifest.files)
    assert callable(damage)
    damage(cache.models / cache.destination(source).readlink().name)
    assert cache.current(source, everything=False) is None
    again = MemoryStore(model())
    fetch(again, tmp_path, f"{SOURCE}@{COMMIT}")
    assert cache.current(source, everything=False) == manifest


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_cache_of_somebody_else_is_said_with_the_fix() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        said, saying = os.pipe()
        child = os.fork()
        if not child:
            os.setgid(65532)
            os.setuid(65532)
            try:
                fetch(MemoryStore(model()), root / "cache")
            except EngineFailure as failure:
                os.write(saying, f"{failure.reason}: {failure.message}".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(saying)
        message = os.read(said, 4096).decode()
        os.close(said)
    assert message == (
        f"EngineConfigInvalid: The model cache {root}/cache cannot be written by uid 65532: it belongs to 0:0, mode 755. Set "
        f"fsGroup: 65532 by spec.podTemplate.spec.securityContext, or once: chown -R 65532:65532 {root}/cache"
    )


def test_a_part_of_a_model_does_not_pass_for_all_of_it(tmp_path: Path) -> None:
    fetch(MemoryStore(model()), tmp_path)
    assert Cache(tmp_path).current(parse_source(SOURCE), everything=True) is None


def test_a_source_stands_where_the_controller_expects_it(tmp_path: Path) -> None:
    for text in ("s3://bucket/small", "s3://bucket/small/"):
        expected = Path(contract.cached_path(text, None)).name
        assert Cache(tmp_path).destination(parse_source(text)) == tmp_path / expected


def test_what_nothing_leads_to_may_be_deleted(tmp_path: Path) -> None:
    fetch(MemoryStore(model()), tmp_path)
    cache = Cache(tmp_path)
    assert cache.unused() == []
    old = destination(tmp_path).resolve()
    fetch(MemoryStore(model(weights=1000), revision="d" * 40), tmp_path)
    (cache.parts / "unfinished").mkdir()
    assert [path for path, _ in cache.unused()] == [old, cache.parts / "unfinished"]
