"""API keys as entries of a Secret: made, read for people, and chosen. Pure, but for the randomness of a new key.

The key itself is never stored: an entry holds its SHA-256 digest and its last four characters. The router reads the same
entries (router/keys.py), and knows more of what may be wrong with one.
"""

import base64
import hashlib
import json
import re
import secrets
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tokenfleet.cli.errors import CliError, Unusable

_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 43
"""Of 62 characters each: 256 bits."""
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}
_STAMP: Final = "%Y-%m-%dT%H:%M:%SZ"

Fields = dict[str, Any]


def new_token(choice: Callable[[str], str] = secrets.choice) -> str:
    """A key that nobody can guess; the prefix lets scanners of repositories find one that was committed."""
    return "tf-" + "".join(choice(_ALPHABET) for _ in range(_LENGTH))


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a Secret, as far as it can be understood."""

    entry: str
    fields: Fields
    readable: bool = True

    @classmethod
    def read(cls, entry: str, content: bytes) -> "Entry":
        try:
            fields = json.loads(content)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            return cls(entry, {}, readable=False)
        return cls(entry, fields)

    @property
    def name(self) -> str:
        return str(self.fields.get("name") or self.entry)

    @property
    def last_four(self) -> str:
        return f"…{self.fields.get('lastFour') or '????'}"

    @property
    def expires(self) -> datetime | None:
        try:
            return datetime.fromisoformat(str(self.fields["expires"]))
        except (KeyError, ValueError):
            return None

    def state(self, now: datetime) -> str:
        if not self.readable:
            return "not readable"
        if (expires := self.expires) is None:
            return "valid"
        left = expires - now
        return f"expires in {_span(left)}" if left > timedelta() else f"expired {_span(-left)} ago"


def read_all(entries: Mapping[str, bytes]) -> list[Entry]:
    return [Entry.read(name, entries[name]) for name in sorted(entries)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A key as somebody asks for it; None: nothing was said of it."""

    name: str
    expires: datetime | None = None
    models: Sequence[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    priority: str | None = None

    def fields(self, token: str) -> Fields:
        """Of a new entry: what was said, and nothing else."""
        said = {
            "sha256": hashlib.sha256(token.encode()).hexdigest(),
            "lastFour": token[-4:],
            "name": self.name,
            "expires": self.expires.strftime(_STAMP) if self.expires is not None else None,
            "models": list(self.models) if self.models is not None else None,
            "requestsPerMinute": self.requests_per_minute,
            "tokensPerMinute": self.tokens_per_minute,
            "priority": self.priority,
        }
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Addition:
    """A new entry, and those of the same name that are there already."""

    entry: Entry
    older: tuple[Entry, ...]

    @property
    def content(self) -> bytes:
        return json.dumps(self.entry.fields).encode()


def add(present: Sequence[Entry], wanted: Wanted, token: str, *, rotate: bool) -> Addition:
    """The entry to add. To rotate takes what nothing was said of from the newest of that name, except for the expiry."""
    older = tuple(sorted((one for one in present if one.name == wanted.name), key=lambda one: _number(one.entry)))
    taken = {one.entry for one in present}
    if older and not rotate:
        there = f"There is a key of the name {wanted.name} already (entry {older[-1].entry}, {older[-1].last_four})"
        raise CliError(f"{there}: give --rotate to add a second one, or choose another name.")
    if rotate and not older:
        raise CliError(f"There is no key of the name {wanted.name} to rotate: leave --rotate out to make the first one.")
    if not rotate and wanted.name in taken:
        raise CliError(f"There is an entry {wanted.name} already, of another name's key: choose another name.")
    entry = wanted.name
    number = 1
    while entry in taken:
        number += 1
        entry = f"{wanted.name}-{number}"
    fields = wanted.fields(token)
    if older:
        fields = {**_inherited(older[-1].fields), **fields}
    return Addition(Entry(entry, fields), older)


def choose(present: Sequence[Entry], entry: str) -> Entry:
    """The entry to revoke."""
    for one in present:
        if one.entry == entry:
            return one
    named = [one.entry for one in present if one.name == entry]
    if named:
        raise CliError(f"There is no entry {entry}, but the key of that name has {', '.join(named)}: name the one to revoke.")
    listed = ", ".join(one.entry for one in present) or "none"
    raise CliError(f"There is no entry {entry}. There are: {listed}.")


def manifest(namespace: str | None, secret: str, addition: Addition) -> str:
    """A Secret with this one entry, in YAML, for a repository; JSON in a string, as `kubectl create secret` would take it."""
    import yaml

    metadata = {"name": secret, **({"namespace": namespace} if namespace else {})}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}
    body["stringData"] = {addition.entry.entry: addition.content.decode()}
    return str(yaml.safe_dump(body, sort_keys=False, width=1_000))


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Unusable(f"{name!r} is no name for a key: take up to 63 letters, digits, dots, dashes and underscores.")
    return name


def parse_models(text: str) -> tuple[str, ...]:
    models = tuple(model.strip() for model in text.split(","))
    if not all(models):
        raise Unusable(f"--models {text!r} has an empty name: separate the models' names by commas, as in a,b.")
    return models


def parse_expiry(text: str, now: datetime) -> datetime:
    """90d, 12h, 4w, a date (its begin, UTC), or a moment in RFC 3339."""
    if match := _SPAN.fullmatch(text):
        return now + timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Unusable(f"--expires {text!r} is no time: give a span as 90d or 12h, or a date as 2027-01-31.") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if moment <= now:
        raise Unusable(f"--expires {text!r} is past: give a time to come.")
    return moment


def encoded(content: bytes) -> str:
    """As a Secret's data has it."""
    return base64.b64encode(content).decode()


def _inherited(fields: Fields) -> Fields:
    return {name: fields[name] for name in ("models", "requestsPerMinute", "tokensPerMinute", "priority") if name in fields}


def _number(entry: str) -> tuple[int, str]:
    """By which entries of one name are in the order in which they were made: alice, alice-2, alice-10."""
    tail = entry.rpartition("-")[2]
    return (int(tail) if tail.isdecimal() else 0, entry)


def _span(length: timedelta) -> str:
    hours = int(length.total_seconds() // 3600)
    return f"{hours // 24} d" if hours >= 48 else f"{hours} h"
