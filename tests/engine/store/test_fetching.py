"""Whole fetches from a store in memory: what ends up in the cache, and what is asked of the store for it."""

import errno
import json
import os
from pathlib import Path

import pytest

from tests.engine.store.stores import COMMIT, SOURCE, MemoryStore, content, destination, fetch, model, needed
from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.store.remote import Transient

PINNED = f"{SOURCE}@{COMMIT}"


def test_a_model_ends_up_whole_where_the_engine_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryStore(model())
    fetch(store, tmp_path)
    there = destination(tmp_path)
    assert there == tmp_path / Path(contract.cached_path(SOURCE, None)).name
    assert content(there) == needed(store.files)
    assert not there.readlink().is_absolute(), "the volume may be mounted elsewhere"
    assert list((tmp_path / ".parts").iterdir()) == []
    manifest = json.loads((tmp_path / ".models" / f"{there.readlink().name}.json").read_text())
    assert (manifest["source"], manifest["revision"]) == (SOURCE, COMMIT)
    said = capsys.readouterr().out.splitlines()
    assert f"tokenfleet-engine: {SOURCE} is at revision {COMMIT}" in said
    assert any(f"pin it by spec.model.revision: {COMMIT}" in line for line in said)
    assert any("verified 4 files: 4 by sha256" in line for line in said)
    assert contract.PROGRESS.search(said[-1]) is not None
    assert store.closed == 1


def test_everything_means_every_file(tmp_path: Path) -> None:
    store = MemoryStore(model())
    fetch(store, tmp_path)
    fetch(store, tmp_path, everything=True)
    assert content(destination(tmp_path)) == store.files
    served = store.served
    fetch(store, tmp_path, everything=True)
    assert store.served == served
    assert sum(path == "model-0.safetensors" for path, _, _ in store.reads) == 5, "the weights were there already"


def test_what_is_complete_and_pinned_is_not_asked_for(tmp_path: Path) -> None:
    fetch(MemoryStore(model()), tmp_path, PINNED)
    again = MemoryStore(model())
    fetch(again, tmp_path, PINNED)
    assert again.asked == 0


def test_what_is_complete_is_not_fetched_again(tmp_path: Path) -> None:
    fetch(MemoryStore(model()), tmp_path)
    again = MemoryStore(model())
    fetch(again, tmp_path)
    assert (again.asked, again.served) == (1, 0)


def test_a_branch_and_its_commit_are_one_copy(tmp_path: Path) -> None:
    fetch(MemoryStore(model()), tmp_path)
    again = MemoryStore(model())
    fetch(again, tmp_path, PINNED)
    assert again.served == 0
    assert destination(tmp_path, PINNED).resolve() == destination(tmp_path).resolve()


def test_a_new_version_takes_the_place_of_the_old_one_and_shares_what_both_have(tmp_path: Path) -> None:
    old, new = model(), model() | {"tokenizer.json": b'{"new": true}'}
    fetch(MemoryStore(old), tmp_path)
    before = destination(tmp_path).resolve()
    store = MemoryStore(new, revision="d" * 40)
    fetch(store, tmp_path)
    assert content(destination(tmp_path)) == needed(new)
    assert content(before) == needed(old), "an engine may still read it"
    assert store.served == len(new["tokenizer.json"])


def test_a_store_that_is_away_does_not_stop_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(MemoryStore(model()), tmp_path)
    fetch(MemoryStore({}, away=True), tmp_path, patience=0)
    assert "starts from the cache" in capsys.readouterr().out


def test_a_store_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=r"store\.example is out of reach: the name .* is not known to DNS") as caught:
        fetch(MemoryStore({}, away=True), tmp_path, patience=0)
    assert caught.value.reason == contract.REASON_MODEL_STORE_UNREACHABLE


def test_what_was_pinned_and_is_something_else_now_is_refused(tmp_path: Path) -> None:
    asked, there = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    with pytest.raises(EngineFailure, match=f"its files make {there}, and {asked} was asked") as caught:
        fetch(MemoryStore(model(), revision=there), tmp_path, f"s3://bucket/small@{asked}")
    assert caught.value.reason == contract.REASON_MODEL_INVALID


def test_a_file_that_vanished_from_the_cache_is_fetched_again(tmp_path: Path) -> None:
    store = MemoryStore(model())
    fetch(store, tmp_path, PINNED)
    (destination(tmp_path, PINNED) / "model-0.safetensors").unlink()
    served = store.served
    fetch(store, tmp_path, PINNED)
    assert content(destination(tmp_path, PINNED)) == needed(store.files)
    assert store.served - served == len(store.files["model-0.safetensors"])


def test_broken_connections_cost_no_byte_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenfleet_engine.store.patience.LONGEST_WAIT", 0.0)
    broken: set[tuple[str, int]] = set()

    def once_each(path: str, offset: int, data: bytes) -> bytes:
        if offset and (path, offset) not in broken:
            broken.add((path, offset))
            raise Transient("reset by peer")
        return data

    store = MemoryStore(model(), meddle=once_each)
    fetch(store, tmp_path)
    assert content(destination(tmp_path)) == needed(store.files)
    assert store.served == sum(map(len, needed(store.files).values()))
    assert len(broken) == 40


def test_a_file_that_arrives_wrong_once_is_fetched_once_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [b"\xff"]

    def flip(path: str, offset: int, data: bytes) -> bytes:
        if path == "model-0.safetensors" and offset >= 100_000 and wrong:
            return wrong.pop() + data[1:]
        return data

    store = MemoryStore(model(), meddle=flip)
    fetch(store, tmp_path)
    assert content(destination(tmp_path)) == needed(store.files)
    assert "model-0.safetensors arrived wrong: its sha256 is" in capsys.readouterr().out


def test_a_file_that_arrives_wrong_twice_is_the_stores_fault(tmp_path: Path) -> None:
    store = MemoryStore(model(), meddle=lambda path, offset, data: bytes(len(data)) if path == "model-1.safetensors" else data)
    with pytest.raises(EngineFailure, match=r"model-1\.safetensors arrived wrong twice from store\.example") as caught:
        fetch(store, tmp_path)
    assert caught.value.reason == contract.REASON_MODEL_INVALID
    assert not destination(tmp_path).exists()
    served, store.meddle = store.served, lambda path, offset, data: data
    fetch(store, tmp_path)
    assert content(destination(tmp_path)) == needed(store.files)
    assert store.served - served <= len(store.files["model-1.safetensors"]) * 2


def test_no_room_is_said_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(MemoryStore(model()), tmp_path)
    fetch(MemoryStore(model(weights=1000), revision="d" * 40), tmp_path)
    volume = os.statvfs_result((4096, 4096, 1000, 5, 5, 0, 0, 0, 0, 255))
    monkeypatch.setattr("tokenfleet_engine.store.space.os.statvfs", lambda _: volume)
    store = MemoryStore(model(weights=3000), revision="e" * 40)
    with pytest.raises(EngineFailure, match=r"20\.5 kB free, and 8\.4 MB are needed") as caught:
        fetch(store, tmp_path)
    assert caught.value.reason == contract.REASON_DISK_FULL
    assert f"delete what no deployment uses any more: {tmp_path}/.models/" in caught.value.message
    assert "(400.2 kB)" in caught.value.message, "the first version, which nothing leads to any more"
    assert store.served == 0


def test_a_disk_that_fills_up_keeps_what_has_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [200_000]
    write = os.pwritev

    def limited(handle: int, pieces: list[bytes], offset: int) -> int:
        room[0] -= sum(map(len, pieces))
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, pieces, offset)

    store = MemoryStore(model())
    with monkeypatch.context() as full:
        full.setattr("tokenfleet_engine.store.sink.os.pwritev", limited)
        with pytest.raises(EngineFailure, match=r"is full.*stays for the next start") as caught:
            fetch(store, tmp_path)
    assert caught.value.reason == contract.REASON_DISK_FULL
    assert not destination(tmp_path).exists()
    served = store.served
    fetch(store, tmp_path)
    assert content(destination(tmp_path)) == needed(store.files)
    assert store.served - served < 350_000, "at least one piece of 50,000 had arrived"
