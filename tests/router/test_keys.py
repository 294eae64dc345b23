"""Who may come in: what a key's entry says, how entries change, and what is logged of it."""

import asyncio
import json
import logging
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tests.router.harness import until
from tokenfleet.router.callers.key_files import KeyFiles
from tokenfleet.router.callers.keys import ANONYMOUS, Everybody, Key, Keyring, Priority
from tokenfleet.router.rejections import INVALID_KEY, KEY_EXPIRED, KEYS_UNAVAILABLE, Kind, Rejected
from tokenfleet.router.terms import Rate

_TOKEN = "tf-0123456789abcdefghijklmnopqrstuvwxyzABCD"
_OTHER = "tf-another-0123456789abcdefghijklmnopqrWXYZ"
_NOW = 1_800_000_000.0


def entry(token: str = _TOKEN, **more: object) -> bytes:
    fields = {"sha256": sha256(token.encode()).hexdigest(), "lastFour": token[-4:], **more}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def keyring(**entries: bytes) -> Keyring:
    made = Keyring()
    made.load(entries)
    return made


def refused(ring: Keyring, credential: bytes | None, now: float = _NOW) -> Rejected:
    with pytest.raises(Rejected) as caught:
        ring.find(credential, now)
    return caught.value


def test_a_key_is_all_that_its_entry_says() -> None:
    ring = keyring(
        alice=entry(
            expires="2027-01-16T00:00:00+01:00",
            models=["llama", "qwen"],
            requestsPerMinute=60,
            tokensPerMinute=10_000,
            priority="high",
        )
    )
    key = ring.find(_TOKEN.encode(), _NOW)
    digest = sha256(_TOKEN.encode()).digest()
    assert key == Key("alice", digest, "ABCD", 1_800_054_000.0, ("llama", "qwen"), Rate(60, 10_000), Priority.HIGH)


def test_an_entry_needs_no_more_than_the_digest() -> None:
    key = keyring(alice=entry(lastFour=None)).find(_TOKEN.encode(), _NOW)
    assert key == Key("alice", sha256(_TOKEN.encode()).digest())
    assert (key.priority, key.rate, key.models, key.expires) == (Priority.NORMAL, Rate(), (), None)


def test_two_keys_of_one_name_are_valid_at_once() -> None:
    ring = keyring(**{"alice": entry(), "alice-2": entry(_OTHER, name="alice")})
    assert [ring.find(token.encode(), _NOW).name for token in (_TOKEN, _OTHER)] == ["alice", "alice"]


@pytest.mark.parametrize(
    ("credential", "kind", "words"),
    [
        pytest.param(None, INVALID_KEY, "has none. Send one as `Authorization: Bearer KEY`", id="no key"),
        pytest.param(b"", INVALID_KEY, "not valid here", id="another scheme"),
        pytest.param(_OTHER.encode(), INVALID_KEY, "not valid here", id="an unknown key"),
        pytest.param(_TOKEN[:-1].encode(), INVALID_KEY, "not valid here", id="a part of a key"),
        pytest.param(sha256(_TOKEN.encode()).hexdigest().encode(), INVALID_KEY, "not valid here", id="a digest"),
        pytest.param(_TOKEN.encode() + b"\xff", INVALID_KEY, "not valid here", id="bytes that are no text"),
    ],
)
def test_who_is_not_let_in(credential: bytes | None, kind: Kind, words: str) -> None:
    rejected = refused(keyring(alice=entry()), credential)
    assert rejected.kind is kind
    assert words in rejected.message
    assert b"www-authenticate: Bearer\r\n" in rejected.fields()
    assert rejected.kind.status == 401


def test_expiry_is_looked_at_with_each_request() -> None:
    ring = keyring(alice=entry(expires="2027-01-15T08:00:00Z"))  # 1,800,000,000
    assert ring.find(_TOKEN.encode(), _NOW - 0.001).name == "alice"
    rejected = refused(ring, _TOKEN.encode(), _NOW)
    assert rejected.kind is KEY_EXPIRED
    assert "alice (…ABCD) has expired on 2027-01-15T08:00:00Z" in rejected.message


def test_without_any_key_nobody_is_let_in_and_is_told_to_come_back() -> None:
    ring = keyring()
    assert not ring.available
    for credential in (None, _TOKEN.encode()):
        rejected = refused(ring, credential)
        assert rejected.kind is KEYS_UNAVAILABLE
        assert rejected.retry_after


def test_a_router_that_wants_no_keys_lets_everybody_in() -> None:
    assert Everybody().find(None, _NOW) is Everybody().find(b"anything", _NOW) is ANONYMOUS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(_TOKEN.encode(), "not JSON", id="the key itself"),
        pytest.param(b"[]", "Expected `object`", id="a list"),
        pytest.param(b"{}", "missing required field `sha256`", id="no digest"),
        pytest.param(b'{"sha256": "abc"}', "field sha256 is wrong", id="a digest that is too short"),
        pytest.param(entry(sha256=_TOKEN), "field sha256 is wrong", id="a key for a digest"),
        pytest.param(entry(expires="tomorrow"), "field expires is wrong", id="a date that is none"),
        pytest.param(entry(expires="2027-01-01T00:00:00"), "field expires is wrong", id="a date of nowhere"),
        pytest.param(
            entry(priority="urgent"), "field priority is wrong (one of low, normal, high)", id="a priority that is none"
        ),
        pytest.param(entry(requestsPerMinute=0), "field requestsPerMinute is wrong", id="no requests at all"),
        pytest.param(entry(tokensPerMinute="10"), "field tokensPerMinute is wrong", id="a number in a string"),
        pytest.param(entry(models="llama"), "field models is wrong", id="models that are no list"),
        pytest.param(entry(name="a b"), "field name is wrong", id="a name with a space"),
        pytest.param(entry(lastFour=_TOKEN), "field lastFour is wrong", id="more than the last four"),
        pytest.param(entry(limit=5), "the unknown field limit", id="a field that does not exist"),
        pytest.param(
            entry().replace(b"lastFour", _TOKEN.encode()), "the unknown field (not shown)", id="a key for a field's name"
        ),
    ],
)
def test_a_bad_entry_is_named_and_skipped_and_the_others_hold(
    content: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    ring = keyring(bad=content, good=entry(_OTHER))
    assert ring.find(_OTHER.encode(), _NOW).name == "good"
    assert refused(ring, _TOKEN.encode()).kind is INVALID_KEY
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert told[0].startswith("the entry bad of the API keys is skipped: ")
    assert words in told[0]
    assert _TOKEN not in caplog.text


def test_one_key_in_two_entries_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    ring = keyring(a=entry(), b=entry(priority="high"))
    assert ring.find(_TOKEN.encode(), _NOW).name == "a"
    assert "the entry b of the API keys is skipped: its sha256 stands in another entry, that of a (…ABCD)" in caplog.text


def test_changes_are_told_once_by_name_and_last_four(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ring = keyring(alice=entry(), bad=b"{}")
    for _ in range(2):
        ring.load({"alice": entry(priority="low"), "bob": entry(_OTHER), "bad": b"{}"})
    ring.load({"bob": entry(_OTHER)})
    for _ in range(2):
        ring.load({})
    assert [record.getMessage() for record in caplog.records] == [
        "the entry bad of the API keys is skipped: it is not JSON of the right form: Object missing required field `sha256`",
        "API key alice (…ABCD) is valid, by the entry alice",
        "API key alice (…ABCD) has changed, by the entry alice",
        "API key bob (…WXYZ) is valid, by the entry bob",
        "API key alice (…ABCD) is revoked: its entry alice is gone, or cannot be used",
        "API key bob (…WXYZ) is revoked: its entry bob is gone, or cannot be used",
        "there is no API key that can be used: nobody is let in until there is one",
    ]


class Plain:
    """A directory of files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, **entries: bytes) -> None:
        self.root.mkdir(exist_ok=True)
        for file in self.root.iterdir():
            if file.name not in entries:
                file.unlink()
        for name, content in entries.items():
            scratch = self.root / f".{name}.new"
            scratch.write_bytes(content)
            scratch.rename(self.root / name)


class Volume(Plain):
    """A Secret's volume as the kubelet makes it: all entries change at once, by the link ..data."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.generation = 0

    def write(self, **entries: bytes) -> None:
        self.root.mkdir(exist_ok=True)
        self.generation += 1
        real = self.root / f"..2026_11_21_{self.generation}"
        real.mkdir()
        for name, content in entries.items():
            (real / name).write_bytes(content)
        link = self.root / "..data_tmp"
        link.symlink_to(real.name)
        link.rename(self.root / "..data")
        for file in self.root.iterdir():
            if not file.name.startswith("..") and file.name not in entries:
                file.unlink()
            elif file.name.startswith("..2026") and file != real:
                for old in file.iterdir():
                    old.unlink()
                file.rmdir()
        for name in entries:
            if not (self.root / name).is_symlink():
                (self.root / name).symlink_to(f"..data/{name}")


@pytest.mark.parametrize("kind", [pytest.param(Plain, id="plain files"), pytest.param(Volume, id="a Secret's volume")])
async def test_a_directory_is_followed(kind: Callable[[Path], Plain], tmp_path: Path) -> None:
    directory, ring = kind(tmp_path / "keys"), Keyring()
    files = KeyFiles(directory.root, ring)
    files.load()
    assert not ring.available
    following = asyncio.create_task(files.follow(pause=0.0))

    def names() -> set[str]:
        return {ring.find(token.encode(), _NOW).name for token in (_TOKEN, _OTHER) if known(ring, token)}

    directory.write(alice=entry())
    await until(lambda: names() == {"alice"})
    directory.write(alice=entry(), bob=entry(_OTHER))
    await until(lambda: names() == {"alice", "bob"})
    directory.write(bob=entry(_OTHER, priority="high"))
    await until(lambda: names() == {"bob"} and ring.find(_OTHER.encode(), _NOW).priority is Priority.HIGH)
    directory.write()
    await until(lambda: not ring.available)
    following.cancel()


def known(ring: Keyring, token: str) -> bool:
    try:
        ring.find(token.encode(), _NOW)
    except Rejected:
        return False
    return True


def test_keys_are_there_before_the_first_request(tmp_path: Path) -> None:
    Volume(tmp_path / "keys").write(alice=entry())
    ring = Keyring()
    KeyFiles(tmp_path / "keys", ring).load()
    assert known(ring, _TOKEN)


def test_nothing_is_read_while_nothing_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ring = Keyring()
    files = KeyFiles(tmp_path / "keys", ring)
    files.load()
    Volume(tmp_path / "keys").write(alice=entry())
    for _ in range(3):
        files.load()
    assert [record.getMessage() for record in caplog.records] == [
        "there is no API key that can be used: nobody is let in until there is one",
        "API key alice (…ABCD) is valid, by the entry alice",
    ]


async def test_a_file_that_cannot_be_read_leaves_the_keys_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    volume, ring = Volume(tmp_path / "keys"), Keyring()
    volume.write(alice=entry())
    files = KeyFiles(volume.root, ring)
    files.load()
    os.replace(volume.root / "..data", volume.root / "..kept")  # noqa: PTH105
    (volume.root / "..data").symlink_to("..nowhere")
    following = asyncio.create_task(files.follow(pause=0.0))
    await until(lambda: "cannot be read" in caplog.text)
    assert known(ring, _TOKEN)
    following.cancel()
