"""`tokenfleet restart`: every engine is replaced by one of the same kind, each behind its drain."""

from typing import Annotated

import typer

from tokenfleet import contract
from tokenfleet.cli import options
from tokenfleet.cli.cluster.deployments import Deployments
from tokenfleet.cli.rollouts.progress import Progress, progress_of, restarted
from tokenfleet.cli.rollouts.watching import looks, show, tools_of

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until all engines are new ones.")]


@options.in_cluster
def restart(
    context: typer.Context,
    name: options.Name,
    wait: Wait = True,
    *,
    place: options.Place,
) -> None:
    """Replace all engines of an LLMDeployment, without a moment in which none serves and without a stream that is cut.

    A new engine starts before an old one goes (spec.rollout.maxSurge), and that one ends what it has first.
    """
    tools = tools_of(context)
    deployments = tools.open_deployments(place)
    where = f"{deployments.namespace}/{name}"
    if not any(body["spec"].get("replicas", 1) for body in deployments.engines(name)):
        deployments.get(name)
        typer.echo(f"No engine of {where} runs, so there is none to restart: the next one is new anyway.", err=True)
        return
    moment = f"{tools.now():%Y-%m-%dT%H:%M:%SZ}"
    deployments.patch(name, {"metadata": {"annotations": {contract.ANNOTATION_RESTARTED: moment}}})
    if not wait:
        typer.echo(
            f"Restarting the engines of {where}. Follow it: "
            f"tokenfleet rollout status {name} -n {deployments.namespace} --watch",
            err=True,
        )
        return
    looker = _Looker(deployments, name)
    show(looks(looker.look, tools, over=lambda _: looker.done), tools)
    typer.echo(f"All engines of {where} are new ones.", err=True)


class _Looker:
    """Until the restart is through. What a canary has to say meanwhile is another matter."""

    def __init__(self, deployments: Deployments, name: str) -> None:
        self._deployments, self._name = deployments, name
        self.done = False

    def look(self) -> Progress:
        owner, engines = self._deployments.get(self._name), self._deployments.engines(self._name)
        progress = progress_of(owner, engines)
        self.done = restarted(owner, engines) and all(one.done for one in progress.pods)
        return progress
