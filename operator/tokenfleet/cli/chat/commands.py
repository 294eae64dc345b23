"""`tokenfleet chat`: a conversation with a model, by the router of an LLMDeployment or by an URL."""

import asyncio
import contextlib
import importlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Final, TextIO

import typer

from tokenfleet.api.conditions import SCALED_TO_ZERO, SUSPENDED
from tokenfleet.cli import options
from tokenfleet.cli.chat.conversation import Conversation, Settings
from tokenfleet.cli.chat.dialogue import Dialogue, talk
from tokenfleet.cli.chat.server import Server
from tokenfleet.cli.cluster.target import Target, target
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.options import Place

KEY_VARIABLE: Final = "TOKENFLEET_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the command takes from outside."""

    reach: Callable[[Place, str], AbstractContextManager[Target]] = target
    clock: Callable[[], float] = time.monotonic
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    lines: Callable[[str], str] = input


@options.in_cluster
def chat(
    context: typer.Context,
    server: Annotated[
        str,
        typer.Argument(
            metavar="NAME|URL", help="An LLMDeployment, or a server.", show_default=False, autocompletion=options.names
        ),
    ],
    once: Annotated[str | None, typer.Option("--once", help="Ask this, and end.", show_default=False)] = None,
    system: Annotated[str | None, typer.Option("--system", help="What the model is told first.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model, or an adapter; the only one where left out.", show_default=False)
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help=f"API key; {KEY_VARIABLE} where left out.", show_default=False)
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Of an answer.", show_default=False)] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0.0, max=2.0, help="0 takes the likeliest token.", show_default=False)
    ] = None,
    as_json: options.Json = False,
    *,
    place: options.Place,
) -> None:
    """Talk to a model, token by token as they come.

    tokenfleet chat llama -n chat

    tokenfleet chat http://localhost:8000 --once "What is a fleet?"

    echo "What is a fleet?" | tokenfleet chat llama --json

    Without a terminal each line of the input is a prompt. Ctrl-C breaks an answer off, Ctrl-D ends.
    """
    tools = context.obj if isinstance(context.obj, Tools) else Tools()
    if once is not None and not once.strip():
        raise Unusable("--once is empty: give the prompt, or leave it out to talk.")
    with tools.reach(place, server) as reached, asyncio.Runner() as runner:
        spoken = Server(reached, key=key or os.environ.get(KEY_VARIABLE) or None)
        try:
            name = model or reached.model or _only(runner.run(spoken.models()))
            settings = Settings(model=name, max_tokens=max_tokens, temperature=temperature)
            dialogue = Dialogue(
                server=spoken,
                settings=settings,
                clock=tools.clock,
                conversation=Conversation(system),
                as_json=as_json,
                wakes=_sleeps(reached),
            )
            _hold(dialogue, runner, tools, once)
        finally:
            runner.run(spoken.close())


def _hold(dialogue: Dialogue, runner: asyncio.Runner, tools: Tools, once: str | None) -> None:
    try:
        if once is not None:
            runner.run(dialogue.ask(once))
        elif tools.stdin.isatty():
            talk(dialogue, runner, lines=_with_history(tools.lines))
        else:
            for line in tools.stdin:
                if line.strip():
                    runner.run(dialogue.ask(line.strip()))
    except KeyboardInterrupt:
        dialogue.note("\nBroken off.")
        raise typer.Exit(130) from None


def _only(models: list[str]) -> str:
    if not models:
        raise CliError("The server serves no model: give --model, or ask another server.")
    if len(models) > 1:
        raise Unusable(f"The server has several models: choose one with --model. There are: {', '.join(models)}.")
    return models[0]


def _sleeps(reached: Target) -> bool:
    """Whether the first request wakes the model. Raises CliError where none would."""
    if reached.deployment is None:
        return False
    metadata, spec = reached.deployment["metadata"], reached.deployment.get("spec") or {}
    conditions = (reached.deployment.get("status") or {}).get("conditions") or ()
    reason = next((one["reason"] for one in conditions if one["type"] == "Ready"), "")
    place = f"{metadata['name']} -n {metadata['namespace']}"
    if reason == SUSPENDED:
        raise CliError(f"{metadata['name']} is suspended, so no engine runs: tokenfleet resume {place}")
    if reason == SCALED_TO_ZERO and not spec.get("autoscaling"):
        where = f"kubectl -n {metadata['namespace']} scale llmd/{metadata['name']} --replicas=1"
        raise CliError(f"spec.replicas of {metadata['name']} is 0, so no engine runs: {where}")
    return bool(reason == SCALED_TO_ZERO)


def _with_history(lines: Callable[[str], str]) -> Callable[[str], str]:
    """With the keys of a line editor, where this Python has one."""
    if lines is input:
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")
    return lines
