"""`tokenfleet keys` on a store in memory: what is stored, what is shown, and what is said when it cannot be done."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tokenfleet.cli.errors import CliError, Conflict, Unusable
from tokenfleet.cli.keys.commands import Tools
from tokenfleet.cli.keys.entries import new_token, read_all
from tokenfleet.cli.keys.store import Snapshot
from tokenfleet.cli.main import app
from tokenfleet.cli.options import Place
from tokenfleet.router.callers.keys import Keyring, Priority
from tokenfleet.router.terms import Rate

_NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)
_TOKENS = [f"tf-{number:043}" for number in range(10)]


@dataclass
class Store:
    """A Secret in memory, and others who write to it."""

    entries: dict[str, bytes] | None = None
    place: str = "default/team"
    version: int = 1
    interruptions: list[dict[str, bytes]] = field(default_factory=list)
    asked_for: dict[str, Any] = field(default_factory=dict)

    def read(self) -> Snapshot:
        seen = Snapshot(None) if self.entries is None else Snapshot(str(self.version), tuple(read_all(self.entries)))
        if self.interruptions:
            self.entries = {**(self.entries or {}), **self.interruptions.pop()}
            self.version += 1
        return seen

    def write(self, entry: str, content: bytes | None, seen: Snapshot) -> None:
        if seen.version != (None if self.entries is None else str(self.version)):
            raise Conflict("changed")
        self.entries = dict(self.entries or {})
        self.version += 1
        if content is None:
            del self.entries[entry]
        else:
            self.entries[entry] = content

    def fields(self, entry: str) -> dict[str, Any]:
        assert self.entries is not None
        found: dict[str, Any] = json.loads(self.entries[entry])
        return found


@dataclass
class Shell:
    """The command line, with its randomness and its clock."""

    store: Store
    made: int = 0

    def new_token(self) -> str:
        self.made += 1
        return _TOKENS[self.made - 1]

    def open(self, place: Place, *, secret: str) -> Store:
        self.store.asked_for = {**asdict(place), "secret": secret}
        return self.store

    def run(self, line: str) -> Any:
        tools = Tools(open_store=self.open, now=lambda: _NOW, new_token=self.new_token)
        return CliRunner().invoke(app, line.split(), obj=tools, terminal_width=200)

    def done(self, line: str) -> Any:
        result = self.run(line)
        assert result.exit_code == 0, result.output
        return result

    def failed(self, line: str) -> CliError:
        error = self.run(line).exception
        assert isinstance(error, CliError)
        return error


@pytest.fixture
def shell() -> Shell:
    return Shell(Store())


def entry(token: str, **more: object) -> bytes:
    return json.dumps({"sha256": sha256(token.encode()).hexdigest(), "lastFour": token[-4:], **more}).encode()


def test_a_key_is_printed_once_and_its_digest_stored(shell: Shell) -> None:
    result = shell.done("keys create alice")
    assert result.stdout == f"{_TOKENS[0]}\n"
    assert "entry alice of the Secret default/team. It is shown this once" in result.stderr
    assert shell.store.fields("alice") == {
        "sha256": sha256(_TOKENS[0].encode()).hexdigest(),
        "lastFour": _TOKENS[0][-4:],
        "name": "alice",
    }
    assert _TOKENS[0] not in str(shell.store.entries)


def test_the_router_takes_what_is_made_here(shell: Shell) -> None:
    shell.done(
        "keys create alice --expires 90d --models llama,qwen --requests-per-minute 60 --tokens-per-minute 1000 --priority high"
    )
    ring = Keyring()
    assert shell.store.entries is not None
    ring.load(shell.store.entries)
    key = ring.find(_TOKENS[0].encode(), _NOW.timestamp())
    assert (key.name, key.models, key.rate, key.priority) == ("alice", ("llama", "qwen"), Rate(60, 1_000), Priority.HIGH)
    assert key.expires == _NOW.timestamp() + 90 * 86_400
    assert key.last_four == _TOKENS[0][-4:]


def test_json_is_for_programs(shell: Shell) -> None:
    made = json.loads(shell.done("keys create alice --expires 2027-02-01 --json").stdout)
    assert made["key"] == _TOKENS[0]
    assert made["secret"] == "default/team"
    assert made["expires"] == "2027-02-01T00:00:00Z"
    listed = json.loads(shell.done("keys list --json").stdout)
    assert [(row["entry"], row["state"], row["priority"]) for row in listed] == [("alice", "expires in 30 d", "normal")]
    assert "key" not in listed[0]


def test_a_name_that_is_taken_is_not_overwritten(shell: Shell) -> None:
    shell.done("keys create alice")
    before = dict(shell.store.entries or {})
    assert "There is a key of the name alice already (entry alice, …0000): give --rotate" in str(
        shell.failed("keys create alice")
    )
    assert shell.store.entries == before


def test_rotation_adds_a_second_key_of_the_name_and_says_how_to_end_the_first(shell: Shell) -> None:
    shell.done("keys create alice --models llama --requests-per-minute 5 --priority low --expires 1d")
    result = shell.done("keys create alice --rotate --requests-per-minute 9")
    assert "Once it is in use, revoke …0000: tokenfleet keys revoke alice -n default -s team" in result.stderr
    made = shell.store.fields("alice-2")
    assert (made["name"], made["models"], made["requestsPerMinute"], made["priority"]) == ("alice", ["llama"], 9, "low")
    assert "expires" not in made, "a time that was meant for the first one"
    shell.done("keys revoke alice")
    shell.done("keys create alice --rotate")
    assert set(shell.store.entries or ()) == {"alice", "alice-2"}
    assert "no key of the name bob to rotate" in str(shell.failed("keys create bob --rotate"))


def test_somebody_else_writes_at_the_same_time(shell: Shell) -> None:
    shell.store.entries = {}
    shell.store.interruptions = [{"bob": entry("b")}, {"carol": entry("c")}]
    shell.done("keys create alice")
    assert set(shell.store.entries) == {"alice", "bob", "carol"}


def test_somebody_else_takes_the_name_at_the_same_time(shell: Shell) -> None:
    shell.store.interruptions = [{"alice": entry("a")}]
    assert "There is a key of the name alice already" in str(shell.failed("keys create alice"))


def test_somebody_else_writes_for_ever(shell: Shell) -> None:
    shell.store.interruptions = [{f"entry-{number}": entry(str(number))} for number in range(20)]
    assert str(shell.failed("keys create alice")) == "Others keep changing the Secret default/team: try again."


def test_a_dry_run_prints_a_secret_for_a_repository_and_asks_no_cluster(shell: Shell) -> None:
    result = shell.done("keys create alice --dry-run --models llama -n prod -s team")
    secret = yaml.safe_load(result.stdout)
    assert (secret["kind"], secret["metadata"]) == ("Secret", {"name": "team", "namespace": "prod"})
    ring = Keyring()
    ring.load({name: text.encode() for name, text in secret["stringData"].items()})
    assert ring.find(_TOKENS[0].encode(), 0.0).models == ("llama",)
    assert _TOKENS[0] not in result.stdout
    assert _TOKENS[0] in result.stderr
    assert shell.store.asked_for == {}
    assert "cannot --rotate" in str(shell.failed("keys create alice --dry-run --rotate"))


def test_the_list_shows_what_there_is(shell: Shell) -> None:
    shell.store.entries = {
        "alice": entry("abcd", name="alice", expires="2027-01-01T18:00:00Z", models=["llama"], requestsPerMinute=60),
        "alice-2": entry("efgh", name="alice", expires="2026-12-01T00:00:00Z", priority="high", tokensPerMinute=1000),
        "broken": b"tf-a-key-itself",
    }
    rows = [line.split() for line in shell.done("keys list").stdout.splitlines()]
    assert rows[1] == ["alice", "alice", "…abcd", "expires", "in", "6", "h", "llama", "60", "router's", "normal"]
    assert rows[2] == ["alice-2", "alice", "…efgh", "expired", "31", "d", "ago", "all", "router's", "1000", "high"]
    assert rows[3][:5] == ["broken", "broken", "…????", "not", "readable"]
    assert "tf-a-key" not in shell.done("keys list").output


@pytest.mark.parametrize(("entries", "words"), [(None, "does not exist"), ({}, "has no keys")])
def test_an_empty_list_says_what_to_do(shell: Shell, entries: dict[str, bytes] | None, words: str) -> None:
    shell.store.entries = entries
    result = shell.done("keys list")
    assert result.stdout == ""
    assert f"{words}. Make a key with `tokenfleet keys create NAME`." in " ".join(result.stderr.split())


def test_revoking_removes_the_entry_alone(shell: Shell) -> None:
    shell.store.entries = {"alice": entry("abcd"), "bob": entry("efgh")}
    result = shell.done("keys revoke alice")
    assert set(shell.store.entries) == {"bob"}
    assert "Revoked the key of alice (…abcd)" in result.stderr


def test_revoking_what_is_not_there_says_what_is(shell: Shell) -> None:
    shell.store.entries = {"a-1": entry("abcd", name="alice"), "bob": entry("efgh")}
    assert "There is no entry carol. There are: a-1, bob." in str(shell.failed("keys revoke carol"))
    assert "the key of that name has a-1: name the one" in str(shell.failed("keys revoke alice"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param("alice --expires tomorrow", "'tomorrow' is no time: give a span as 90d", id="no time"),
        pytest.param("alice --expires 0d", "is no time", id="a span of nothing"),
        pytest.param("alice --expires 2020-01-01", "is past", id="a time that is past"),
        pytest.param("alice --models a,,b", "has an empty name", id="a model without a name"),
        pytest.param("a/b", "is no name for a key", id="a name that no Secret takes"),
        pytest.param("-- -a", "is no name for a key", id="a name that begins with a dash"),
    ],
)
def test_what_cannot_be_meant(shell: Shell, options: str, words: str) -> None:
    error = shell.failed(f"keys create {options}")
    assert isinstance(error, Unusable)
    assert error.code == 2
    assert words in str(error)
    assert shell.store.entries is None


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        pytest.param("12h", "2027-01-02T00:00:00Z", id="hours"),
        pytest.param("4w", "2027-01-29T12:00:00Z", id="weeks"),
        pytest.param("2027-06-01", "2027-06-01T00:00:00Z", id="a date"),
        pytest.param("2027-06-01T12:00:00+02:00", "2027-06-01T10:00:00Z", id="a moment elsewhere"),
    ],
)
def test_expiry(shell: Shell, text: str, stored: str) -> None:
    shell.done(f"keys create alice --expires {text}")
    assert shell.store.fields("alice")["expires"] == stored


def test_where_the_secret_is(shell: Shell) -> None:
    shell.done("keys list")
    assert shell.store.asked_for == {"kubeconfig": None, "context": None, "namespace": None, "secret": "tokenfleet-keys"}
    shell.done("keys list -n prod -s team --context east")
    assert shell.store.asked_for == {"kubeconfig": None, "context": "east", "namespace": "prod", "secret": "team"}


def test_keys_differ_and_are_long_enough() -> None:
    made = {new_token() for _ in range(50)}
    assert len(made) == 50
    assert all(len(token) == 46 and token.startswith("tf-") and token.isascii() for token in made)


def test_errors_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        app(["keys", "create", "alice", "--expires", "never", "--dry-run"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "tokenfleet: --expires 'never' is no time: give a span as 90d or 12h, or a date as 2027-01-31."
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("--help", "keys", id="the whole"),
        pytest.param("keys --help", "revoke", id="keys"),
        pytest.param("keys create --help", "Make a key, and print it", id="create"),
    ],
)
def test_help_teaches(shell: Shell, line: str, words: str) -> None:
    assert words in shell.done(line).stdout


def test_the_version_is_told(shell: Shell) -> None:
    assert shell.done("--version").stdout.strip()
