"""API keys: who asks, and what that key may. Never a key itself: a Secret and this process hold SHA-256 digests alone.

A request's key is hashed whole and looked up by its digest. An attacker cannot choose digests, so how long the lookup
takes says nothing of any key, and it takes the same with one key or thousands. `load` takes what key_files.py read: an entry
that cannot be understood is skipped and told once, and the others hold. Without a single key nobody is let in (503).

Logs name a key by its name and last four characters.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from hashlib import sha256
from typing import Annotated, Final, Literal

import msgspec

from tokenfleet.router.rejections import INVALID_KEY, KEY_EXPIRED, KEYS_UNAVAILABLE, Rejected
from tokenfleet.router.terms import Rate

log = logging.getLogger(__name__)

_CHALLENGE: Final = b"www-authenticate: Bearer\r\n"
_HOW: Final = "Send one as `Authorization: Bearer KEY`."


class Priority(IntEnum):
    """Who goes first when there is not room for all."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Key(msgspec.Struct, frozen=True):
    """One key, and what it may."""

    name: str
    """Of whoever has it: limits, metrics and logs go by it. Two keys of one name share limits, so that keys can be rotated."""
    digest: bytes = b""
    last_four: str = ""
    expires: float | None = None
    """Seconds since 1970."""
    models: tuple[str, ...] = ()
    """Empty: all."""
    rate: Rate = Rate()
    """Limits of its own, before the router's."""
    priority: Priority = Priority.NORMAL

    def __str__(self) -> str:
        return f"{self.name} (…{self.last_four})"


ANONYMOUS: Final = Key("anonymous")
"""Whoever asks a router that wants no keys; all of them together."""

_Limit = Annotated[int, msgspec.Meta(ge=1)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._@+-]{0,61}[A-Za-z0-9])?$")]


class Entry(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A key as one entry of the Secret has it, in JSON."""

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    """Of the whole key."""
    last_four: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{0,4}$")] = ""
    name: _Name | None = None
    """Absent: the entry's own."""
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    models: tuple[str, ...] = ()
    requests_per_minute: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    priority: Literal["low", "normal", "high"] = "normal"

    def key(self, entry_name: str) -> Key:
        return Key(
            name=self.name or entry_name,
            digest=bytes.fromhex(self.sha256),
            last_four=self.last_four,
            expires=self.expires.timestamp() if self.expires is not None else None,
            models=self.models,
            rate=Rate(self.requests_per_minute, self.tokens_per_minute),
            priority=Priority[self.priority.upper()],
        )


_ENTRY: Final = msgspec.json.Decoder(Entry)


class Everybody:
    """The keyring of a router that wants no keys."""

    available = True

    def find(self, credential: bytes | None, now: float) -> Key:
        return ANONYMOUS


class Keyring:
    """All keys that are valid now, but for their expiry, which each request looks at."""

    __slots__ = ("_available", "_entries", "_keys", "_wrong")

    def __init__(self) -> None:
        self._available: bool | None = None
        """None: nothing was read yet."""
        self._keys: dict[bytes, Key] = {}
        self._entries: dict[str, Key] = {}
        self._wrong: dict[str, str] = {}

    @property
    def available(self) -> bool:
        """There is a key at all; without one nobody is let in."""
        return bool(self._keys)

    def find(self, credential: bytes | None, now: float) -> Key:
        """The key that a request carries; empty where it carries something else. now: seconds since 1970."""
        if credential is None:
            raise self._refusal("This router wants an API key, and the request has none.")
        key = self._keys.get(sha256(credential).digest())
        if key is None:
            raise self._refusal("This API key is not valid here; it may have been revoked.")
        if key.expires is not None and key.expires <= now:
            raise _expired(key, key.expires)
        return key

    def load(self, entries: Mapping[str, bytes]) -> None:
        """Take these for all the entries that there are, and tell what changed."""
        found: dict[str, Key] = {}
        wrong: dict[str, str] = {}
        keys: dict[bytes, Key] = {}
        for name in sorted(entries):
            try:
                key = _ENTRY.decode(entries[name]).key(name)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                wrong[name] = _explain(error)
                continue
            if key.digest in keys:
                wrong[name] = f"its sha256 stands in another entry, that of {keys[key.digest]}"
                continue
            found[name] = keys[key.digest] = key
        self._tell(found, wrong)
        if not keys and self._available is not False:
            log.warning("there is no API key that can be used: nobody is let in until there is one")
        self._available = bool(keys)
        self._keys, self._entries, self._wrong = keys, found, wrong

    def _tell(self, found: Mapping[str, Key], wrong: Mapping[str, str]) -> None:
        for name, why in wrong.items():
            if self._wrong.get(name) != why:
                log.warning("the entry %s of the API keys is skipped: %s", name, why)
        for name in self._entries.keys() - found.keys():
            log.info("API key %s is revoked: its entry %s is gone, or cannot be used", self._entries[name], name)
        for name, key in found.items():
            if name not in self._entries:
                log.info("API key %s is valid, by the entry %s", key, name)
            elif self._entries[name] != key:
                log.info("API key %s has changed, by the entry %s", key, name)

    def _refusal(self, message: str) -> Rejected:
        if not self._keys:
            return Rejected(KEYS_UNAVAILABLE, "This router has no API keys now, so it can let nobody in. Try again later.")
        return Rejected(INVALID_KEY, f"{message} {_HOW}", lines=_CHALLENGE)


def _expired(key: Key, since: float) -> Rejected:
    when = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Rejected(KEY_EXPIRED, f"The API key {key} has expired on {when}. {_HOW}", lines=_CHALLENGE)


def _explain(error: Exception) -> str:
    """For the log. Somebody may have put a key anywhere, so values are not quoted, and no unknown field that may be one."""
    message = str(error)
    if "unknown field" in message:
        name = message.partition("`")[2].partition("`")[0]
        return f"it has the unknown field {name if name.isalpha() and len(name) <= 20 else '(not shown)'}"
    what, at, field = message.rpartition(" - at `$.")
    if not at:
        return f"it is not JSON of the right form: {message}"
    return f"its field {field.removesuffix('`')} is wrong ({'one of low, normal, high' if 'enum' in what else what})"
