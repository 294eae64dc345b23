"""Puts the commands of `tokenfleet plan` together. Each has a module of its own; here is no logic."""

import typer

from tokenfleet.cli.plan.memory import memory
from tokenfleet.cli.plan.optimize import optimize_command
from tokenfleet.cli.plan.preflight import preflight
from tokenfleet.cli.plan.speed import speed

app = typer.Typer(no_args_is_help=True)
app.command("memory")(memory)
app.command("speed")(speed)
app.command("optimize")(optimize_command)
app.callback(invoke_without_command=True)(preflight)
