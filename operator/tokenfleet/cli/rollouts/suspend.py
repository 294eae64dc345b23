"""`tokenfleet suspend` and `resume`: an LLMDeployment without engines, which keeps all else, and with them again.

They set spec.suspend, since that is the user's own word; where a spec comes from a repository, it is to be changed there.
"""

import typer

from tokenfleet.cli import options
from tokenfleet.cli.rollouts.watching import tools_of


@options.in_cluster
def suspend(
    context: typer.Context,
    name: options.Name,
    *,
    place: options.Place,
) -> None:
    """Run no engine of an LLMDeployment, and keep all else. What runs ends first what it has."""
    deployments = tools_of(context).open_deployments(place)
    where, spec = f"{deployments.namespace}/{name}", deployments.get(name).get("spec") or {}
    if spec.get("suspend"):
        typer.echo(f"{where} is suspended already.", err=True)
        return
    deployments.patch(name, {"spec": {"suspend": True}})
    seconds = (spec.get("drain") or {}).get("timeoutSeconds", 600)
    typer.echo(
        f"Suspended {where}: its engines get nothing new, and go once they have ended what they have, {seconds} s at most. "
        f"To have them back: tokenfleet resume {name} -n {deployments.namespace}",
        err=True,
    )


@options.in_cluster
def resume(
    context: typer.Context,
    name: options.Name,
    *,
    place: options.Place,
) -> None:
    """Run the engines of a suspended LLMDeployment again, as many as its spec says."""
    deployments = tools_of(context).open_deployments(place)
    where, spec = f"{deployments.namespace}/{name}", deployments.get(name).get("spec") or {}
    if not spec.get("suspend"):
        typer.echo(f"{where} is not suspended.", err=True)
        return
    deployments.patch(name, {"spec": {"suspend": False}})
    typer.echo(f"Resumed {where}. Follow it: tokenfleet rollout status {name} -n {deployments.namespace} --watch", err=True)
