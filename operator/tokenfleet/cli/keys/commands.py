"""`tokenfleet keys`: API keys for routers whose spec has `auth.keysSecret`. What they mean is in key_entries.py.

A new key goes to stdout, alone, and all that is said about it to stderr: `KEY=$(tokenfleet keys create alice)` works.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from tokenfleet.cli import options
from tokenfleet.cli.errors import Unusable
from tokenfleet.cli.keys import entries as key_entries
from tokenfleet.cli.keys.entries import Addition, Entry, Wanted
from tokenfleet.cli.keys.store import KeyStore, Snapshot, change, open_store


class Priority(StrEnum):
    """Who goes first when a router has not room for all."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the commands take from outside."""

    open_store: Callable[..., KeyStore] = open_store
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_token: Callable[[], str] = key_entries.new_token


app = typer.Typer(
    no_args_is_help=True,
    help=(
        "API keys for routers whose spec has `auth.keysSecret`.\n\n"
        "The cluster holds digests alone: a key is shown once, when it is made. Routers notice a change without a restart, "
        "within about a minute: as long as the kubelet takes to bring a changed Secret into a pod."
    ),
)

_Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Of the Secret; that of the context where left out.")]
_Secret = Annotated[str, typer.Option("--secret", "-s", envvar="TOKENFLEET_KEYS_SECRET", help="That auth.keysSecret names.")]
_SECRET: Final = "tokenfleet-keys"


@app.command()
@options.in_cluster
def create(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="Of whoever gets the key: limits, metrics and logs go by it.", show_default=False)
    ],
    expires: Annotated[
        str | None, typer.Option(help="A span (12h, 90d, 4w), a date (2027-01-31) or a moment in RFC 3339.")
    ] = None,
    models: Annotated[str | None, typer.Option(help="Names of models, by commas; all where left out.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Its own, in place of the router's.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Its own, in place of the router's.")] = None,
    priority: Annotated[Priority | None, typer.Option(help="When there is not room for all; normal where left out.")] = None,
    rotate: Annotated[bool, typer.Option("--rotate", help="Add a second key of a name that has one; both are valid.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask no cluster: print the Secret, for a repository.")] = False,
    namespace: _Namespace = None,
    secret: _Secret = _SECRET,
    as_json: options.Json = False,
    *,
    place: options.Place,
) -> None:
    """Make a key, and print it: this once, and never again.

    The key is all that goes to stdout. Its digest goes into the Secret, which is created where it is missing.
    """
    tools = _tools(context)
    now = tools.now()
    wanted = Wanted(
        name=key_entries.check_name(name),
        expires=key_entries.parse_expiry(expires, now) if expires is not None else None,
        models=key_entries.parse_models(models) if models is not None else None,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        priority=priority.value if priority is not None else None,
    )
    token = tools.new_token()
    if dry_run and rotate:
        raise Unusable(
            "--dry-run asks no cluster, so it cannot --rotate: leave --rotate out, and give the entry a name of its own."
        )
    if dry_run:
        typer.echo(key_entries.manifest(namespace, secret, key_entries.add((), wanted, token, rotate=False)), nl=False)
        typer.echo(f"The key, which stands nowhere else: {token}", err=True)
        return
    store = tools.open_store(place, secret=secret)

    def decide(seen: Snapshot) -> tuple[Addition, str, bytes]:
        addition = key_entries.add(seen.entries, wanted, token, rotate=rotate)
        return addition, addition.entry.entry, addition.content

    addition = change(store, decide)
    if as_json:
        typer.echo(json.dumps({**_row(addition.entry, now), "secret": store.place, "key": token}))
        return
    _tell_created(store, addition)
    typer.echo(token)


@app.command("list")
@options.in_cluster
def list_keys(
    context: typer.Context,
    namespace: _Namespace = None,
    secret: _Secret = _SECRET,
    as_json: options.Json = False,
    *,
    place: options.Place,
) -> None:
    """Show the keys that there are: never the keys themselves, which nobody has but their owners."""
    tools = _tools(context)
    store = tools.open_store(place, secret=secret)
    seen, now = store.read(), tools.now()
    rows = [_row(entry, now) for entry in seen.entries]
    if as_json:
        typer.echo(json.dumps(rows))
    elif not rows:
        what = "has no keys" if seen.version is not None else "does not exist"
        typer.echo(f"The Secret {store.place} {what}. Make a key with `tokenfleet keys create NAME`.", err=True)
    else:
        wide = None if Console().is_terminal else options.WIDE
        Console(width=wide).print(_table(rows))


@app.command()
@options.in_cluster
def revoke(
    context: typer.Context,
    entry: Annotated[str, typer.Argument(help="As `tokenfleet keys list` shows it.", show_default=False)],
    namespace: _Namespace = None,
    secret: _Secret = _SECRET,
    *,
    place: options.Place,
) -> None:
    """Take a key back. What it has running goes on to its end."""
    store = _tools(context).open_store(place, secret=secret)

    def decide(seen: Snapshot) -> tuple[Entry, str, None]:
        return key_entries.choose(seen.entries, entry), entry, None

    gone = change(store, decide)
    typer.echo(f"Revoked the key of {gone.name} ({gone.last_four}). Routers refuse it within about a minute.", err=True)


def _tools(context: typer.Context) -> Tools:
    return context.obj if isinstance(context.obj, Tools) else Tools()


def _tell_created(store: KeyStore, addition: Addition) -> None:
    made = addition.entry
    typer.echo(f"A key for {made.name}, entry {made.entry} of the Secret {store.place}. It is shown this once:", err=True)
    for old in addition.older:
        options = f"-n {store.place.replace('/', ' -s ')}"
        typer.echo(f"Once it is in use, revoke {old.last_four}: tokenfleet keys revoke {old.entry} {options}", err=True)


def _row(entry: Entry, now: datetime) -> dict[str, Any]:
    fields = entry.fields
    return {
        "entry": entry.entry,
        "name": entry.name,
        "lastFour": fields.get("lastFour"),
        "state": entry.state(now),
        "expires": fields.get("expires"),
        "models": fields.get("models") or [],
        "requestsPerMinute": fields.get("requestsPerMinute"),
        "tokensPerMinute": fields.get("tokensPerMinute"),
        "priority": fields.get("priority", "normal"),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("ENTRY", "NAME", "KEY", "STATE", "MODELS", "REQUESTS/MIN", "TOKENS/MIN", "PRIORITY", box=None, pad_edge=False)
    for row in rows:
        limits = [str(row[name] or "router's") for name in ("requestsPerMinute", "tokensPerMinute")]
        models = ", ".join(map(str, row["models"])) or "all"
        last_four = f"…{row['lastFour'] or '????'}"
        table.add_row(row["entry"], row["name"], last_four, row["state"], models, *limits, str(row["priority"]))
    return table
