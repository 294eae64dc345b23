"""Checksums as the stores compute them, with values that their own tools gave."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.store.stores import safetensors
from tokenfleet_engine.store import checksums
from tokenfleet_engine.store.checksums import Mismatch, verify
from tokenfleet_engine.store.listing import Checksum

HELLO = b"hello\n"


@pytest.mark.parametrize(
    "checksum",
    [
        pytest.param(Checksum("sha256", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"), id="sha256sum"),
        pytest.param(Checksum("git-sha1", "ce013625030ba8dba906f756967f9e9ca394464a"), id="git hash-object"),
        pytest.param(Checksum("md5", "b1946ac92492d2347c6235b4d2611184"), id="md5sum"),
        pytest.param(Checksum("sha1", "f572d396fae9206628714fb2ce00f72e94f2258f"), id="sha1sum"),
        pytest.param(Checksum("crc32", "363a3020"), id="gzip's CRC-32"),
    ],
)
def test_a_file_is_known_by_its_checksum(checksum: Checksum, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(HELLO)
    assert verify(tmp_path / "x", size=6, checksum=checksum) == checksum.algorithm
    (tmp_path / "x").write_bytes(b"hullo\n")
    with pytest.raises(Mismatch, match=f"its {checksum.algorithm} is .* instead of {checksum.value}"):
        verify(tmp_path / "x", size=6, checksum=checksum)


def test_crc32c_has_its_check_value(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"123456789")
    assert verify(tmp_path / "x", size=9, checksum=Checksum("crc32c", "e3069283")) == "crc32c"


@given(data=st.binary(max_size=300), part=st.integers(1, 120), block=st.integers(1, 50))
def test_the_md5_of_parts_is_that_of_their_md5s(data: bytes, part: int, block: int) -> None:
    parts = [data[at : at + part] for at in range(0, len(data), part)]
    whole = hashlib.md5(b"".join(hashlib.md5(each).digest() for each in parts)).hexdigest()
    blocks = [memoryview(data)[at : at + block] for at in range(0, len(data), block)]
    assert checksums.md5_of_parts(iter(blocks), part) == f"{whole}-{len(parts)}"


def test_the_size_is_checked_first(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(HELLO)
    with pytest.raises(Mismatch, match="6 bytes instead of 7"):
        verify(tmp_path / "x", size=7, checksum=None)


def test_without_a_checksum_safetensors_are_known_by_their_header(tmp_path: Path) -> None:
    whole = safetensors(b"x" * 100)
    (tmp_path / "a.safetensors").write_bytes(whole)
    (tmp_path / "b.safetensors").write_bytes(bytes(len(whole)))
    (tmp_path / "config.json").write_bytes(b"{}")
    assert verify(tmp_path / "a.safetensors", size=len(whole), checksum=None) == checksums.HEADER
    assert verify(tmp_path / "config.json", size=2, checksum=None) == checksums.SIZE_ONLY
    with pytest.raises(Mismatch, match="damaged"):
        verify(tmp_path / "b.safetensors", size=len(whole), checksum=None)
