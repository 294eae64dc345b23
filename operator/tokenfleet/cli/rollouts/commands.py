"""`tokenfleet rollout`: what a change of the engines has come to, and a word of one's own about its canary."""

from typing import Annotated

import typer

from tokenfleet import contract
from tokenfleet.cli import options
from tokenfleet.cli.cluster.deployments import Deployments, Json
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.rollouts.progress import Progress, progress_of
from tokenfleet.cli.rollouts.watching import looks, show, show_once, tools_of

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Changes of an LLMDeployment's engines: how far one is, and what becomes of its canary.\n\n"
        "A canary (`spec.rollout.canary`) is judged, promoted and rolled back by the controller; `promote` and `abort` are for "
        "whoever knows better."
    ),
)

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on until it is over; fail where it was rolled back.")]


@app.command()
@options.in_cluster
def status(
    context: typer.Context,
    name: options.Name,
    watch: Watch = False,
    *,
    place: options.Place,
    as_json: options.Json = False,
) -> None:
    """Show how far a change is: its pods, its canary's step, share and failures, and what is waited for."""
    tools = tools_of(context)
    deployments = tools.open_deployments(place)
    if not watch:
        show_once(_look(deployments, name), tools, as_json=as_json)
        return
    last = show(looks(lambda: _look(deployments, name), tools, over=lambda seen: seen.over), tools, as_json=as_json)
    if last.phase == "RolledBack":
        raise CliError(f"The change of {deployments.namespace}/{name} was rolled back: {last.message}")


@app.command()
@options.in_cluster
def promote(
    context: typer.Context,
    name: options.Name,
    *,
    place: options.Place,
) -> None:
    """Roll a change out to all engines now: one that a canary still tries, or one that was rolled back."""
    tools = tools_of(context)
    deployments = tools.open_deployments(place)
    rollout = _on_trial(deployments, name, "promote")
    _order(deployments, name, "promote", rollout)
    typer.echo(
        f"Promoting revision {rollout['revision']} of {deployments.namespace}/{name}. {_follow(deployments, name)}", err=True
    )


@app.command()
@options.in_cluster
def abort(
    context: typer.Context,
    name: options.Name,
    *,
    place: options.Place,
) -> None:
    """Take a change back that a canary tries: its pod drains, and the engines run on as they were."""
    tools = tools_of(context)
    deployments = tools.open_deployments(place)
    rollout = _on_trial(deployments, name, "abort")
    if rollout["phase"] == "RolledBack":
        raise CliError(f"The change of {deployments.namespace}/{name} was rolled back already: {rollout['message']}")
    _order(deployments, name, "abort", rollout)
    typer.echo(
        f"Aborting revision {rollout['revision']} of {deployments.namespace}/{name}. {_follow(deployments, name)}", err=True
    )


def _look(deployments: Deployments, name: str) -> Progress:
    return progress_of(deployments.get(name), deployments.engines(name))


def _on_trial(deployments: Deployments, name: str, verb: str) -> Json:
    """status.rollout of what there is to promote or abort."""
    owner = deployments.get(name)
    rollout: Json = (owner.get("status") or {}).get("rollout") or {}
    where = f"{deployments.namespace}/{name}"
    if not rollout:
        canary = ((owner.get("spec") or {}).get("rollout") or {}).get("canary")
        why = "no change of it is on trial" if canary else "it has no spec.rollout.canary, so its changes roll out at once"
        raise CliError(f"There is nothing to {verb} for {where}: {why}.")
    if rollout["phase"] == "Promoting":
        step = "" if verb == "promote" else " To go back, apply the spec that it had before."
        raise CliError(f"The change of {where} is being promoted already.{step}")
    return rollout


def _order(deployments: Deployments, name: str, verb: str, rollout: Json) -> None:
    """For this revision alone: a change that comes meanwhile is another one."""
    annotations = {contract.ANNOTATION_ROLLOUT: f"{verb}:{rollout['revision']}"}
    deployments.patch(name, {"metadata": {"annotations": annotations}})


def _follow(deployments: Deployments, name: str) -> str:
    return f"Follow it: tokenfleet rollout status {name} -n {deployments.namespace} --watch"
