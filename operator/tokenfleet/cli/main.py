"""`tokenfleet`: puts the commands together, and ends a failed one with one sentence instead of a traceback.

It is also a plugin of kubectl: called as kubectl-llm, it says `kubectl llm` of itself.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenfleet.cli.commands import ENTRIES, Commands, Entry
from tokenfleet.cli.errors import CliError

_PLUGIN = "kubectl-llm"


class _Sentences(typer.Typer):
    """An app whose commands' errors are told to people."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if Path(sys.argv[0]).name == _PLUGIN:
            options = {"prog_name": "kubectl llm", "complete_var": "_KUBECTL_LLM_COMPLETE", **options}
        try:
            return super().__call__(*arguments, **options)
        except CliError as error:
            sys.stderr.write(f"tokenfleet: {error}\n")
            sys.exit(error.code)


app = _Sentences(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Tokenfleet runs fleets of large language models on Kubernetes.\n\n"
        "Deployments of models are objects of the cluster: apply, get and explain them with kubectl "
        "(`kubectl explain llmd.spec`). Here is what kubectl cannot do."
    ),
)
ENTRIES.update(
    (entry.name, entry)
    for entry in (
        Entry("status", "tokenfleet.cli.status.commands:status", "The fleet at a glance, or all of one LLMDeployment."),
        Entry("chat", "tokenfleet.cli.chat.commands:chat", "Talk to a model, token by token as they come."),
        Entry("logs", "tokenfleet.cli.logs.commands:logs", "Logs of all pods of an LLMDeployment, each line with its pod."),
        Entry("diagnose", "tokenfleet.cli.diagnose.commands:diagnose", "Why an LLMDeployment is not ready, and the fix."),
        Entry("plan", "tokenfleet.cli.plan.commands:app", "Plan before paying: memory, speed, and what to buy."),
        Entry(
            "bench", "tokenfleet.cli.bench.commands:app", "Load tests of an LLMDeployment, or of any server of OpenAI's API."
        ),
        Entry("tune", "tokenfleet.cli.tune.commands:app", "Settings of engines that are found by trying."),
        Entry("cost", "tokenfleet.cli.cost.commands:app", "What the engines cost, and when own GPUs are cheaper than an API."),
        Entry(
            "accelerators", "tokenfleet.cli.accelerators:accelerators", "The classes of accelerators: memory, speed and prices."
        ),
        Entry("keys", "tokenfleet.cli.keys.commands:app", "API keys of an LLMDeployment or LLMRouter."),
        Entry(
            "rollout",
            "tokenfleet.cli.rollouts.commands:app",
            "Changes of engines: how far one is, and what becomes of its canary.",
        ),
        Entry("restart", "tokenfleet.cli.rollouts.restart:restart", "Replace all engines, without a stream that is cut."),
        Entry("suspend", "tokenfleet.cli.rollouts.suspend:suspend", "Run no engine of an LLMDeployment, and keep all else."),
        Entry("resume", "tokenfleet.cli.rollouts.suspend:resume", "Run the engines of a suspended LLMDeployment again."),
        Entry("scaling", "tokenfleet.cli.scaling.commands:app", "What autoscaling would do with a load, and why."),
    )
)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

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
