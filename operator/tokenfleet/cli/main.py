"""`tokenfleet`: puts the commands together, and ends a failed one with one sentence instead of a traceback."""

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from tokenfleet.cli.errors import CliError
from tokenfleet.cli.keys import commands as keys
from tokenfleet.cli.rollouts import commands as rollouts
from tokenfleet.cli.rollouts.restart import restart
from tokenfleet.cli.rollouts.suspend import resume, suspend
from tokenfleet.cli.scaling import commands as scaling


class _Sentences(typer.Typer):
    """An app whose commands' errors are told to people."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().__call__(*arguments, **options)
        except CliError as error:
            sys.stderr.write(f"tokenfleet: {error}\n")
            sys.exit(error.code)


app = _Sentences(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Tokenfleet runs fleets of large language models on Kubernetes.\n\n"
        "Deployments of models are objects of the cluster: apply, get and explain them with kubectl "
        "(`kubectl explain llmd.spec`). Here is what kubectl cannot do."
    ),
)
app.add_typer(keys.app, name="keys")
app.add_typer(rollouts.app, name="rollout")
app.add_typer(scaling.app, name="scaling")
for command in (restart, suspend, resume):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(version("tokenfleet"))
    except PackageNotFoundError:  # run from a checkout
        typer.echo("unknown")
    raise typer.Exit


@app.callback()
def tokenfleet(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and end.")
    ] = False,
) -> None:
    """Options of all commands."""
