"""`tokenfleet plan -f llm.yaml`: everything that can be known of LLMDeployments before they are applied.

Reads and never writes: what the API server is asked to apply is a dry run. What cannot be told, for want of a right or of a
cluster that answers, is said, and does not hide the rest. telling.py has the words and the JSON.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, Spec
from tokenfleet.cli import options
from tokenfleet.cli.cluster.capacity import Supply
from tokenfleet.cli.errors import CliError, Conflict, Unreachable, Unusable
from tokenfleet.cli.plan import telling
from tokenfleet.cli.plan.asking import Door, ask
from tokenfleet.cli.plan.calibrations import read_calibrations
from tokenfleet.cli.plan.changes import children_of, rollout_of
from tokenfleet.cli.plan.installation import Installation, fresh
from tokenfleet.cli.plan.live import Live, offline
from tokenfleet.cli.plan.manifests import Manifest, read_manifests
from tokenfleet.cli.plan.models import read_model
from tokenfleet.cli.plan.review import (
    Review,
    Traffic,
    add_bill,
    add_figures,
    known_facts,
)
from tokenfleet.cli.plan.room import add_capacity, running_engines
from tokenfleet.cli.plan.units import seconds
from tokenfleet.errors import InvalidSpec, TokenfleetError
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.speed.speed import Calibration

CHANGES: Final = 3
"""Exit code of --detailed-exitcode where all is fine and objects would change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Questions:
    """What the options ask for."""

    traffic: Traffic
    calibrations: Mapping[str, Calibration]
    model: ModelFacts | None
    """Instead of what the files of the specs say."""


@options.in_cluster
def preflight(
    context: typer.Context,
    file: Annotated[str | None, typer.Option("--filename", "-f", help="Of LLMDeployments, or - for stdin.")] = None,
    offline_only: Annotated[bool, typer.Option("--offline", help="Ask no cluster: objects are as in an empty one.")] = False,
    input_tokens: Annotated[int, typer.Option("--input", min=1, help="Tokens of a prompt, in the mean.")] = 1024,
    output_tokens: Annotated[int, typer.Option("--output", min=1, help="Tokens of an answer, in the mean.")] = 256,
    rate: Annotated[float | None, typer.Option(help="Requests a second, of all replicas together.")] = None,
    ttft: Annotated[str | None, typer.Option(help="Promised at P95: 500ms. spec.slo's where left out.")] = None,
    itl: Annotated[str | None, typer.Option(help="Promised at P95: 50ms. spec.slo's where left out.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Read this instead of spec.model.source: a folder, or a file of facts.")
    ] = None,
    calibration: Annotated[list[Path] | None, typer.Option("--calibration", help="A file of `plan speed --calibrate`.")] = None,
    accelerators: options.Accelerators = None,
    diff: Annotated[bool, typer.Option("--diff/--no-diff", help="Show what would change, line by line.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Fail for missed promises, and devices that are not free.")] = False,
    detailed: Annotated[bool, typer.Option("--detailed-exitcode", help="End with 3 where objects would change.")] = False,
    as_json: options.Json = False,
    *,
    place: options.Place,
) -> None:
    """Plan before paying: memory, speed, what to buy, and, with -f, what applying a file would come to.

    tokenfleet plan -f llm.yaml says whether the model fits, how fast it would be and what it would cost, whether the devices
    are free in this cluster now, and which objects would change. Nothing is written.

    Ends with 0 where all is fine; 1 where it would not work: the model does not fit, the API server refuses it, no cluster
    answers, and with --strict also where a promise is missed or devices are not free; 2 for a file or an option that cannot be
    meant; and with --detailed-exitcode with 3 where it would work and something would change.
    """
    if context.invoked_subcommand is not None:
        if file is not None:
            raise Unusable(f"-f is for `tokenfleet plan` alone: leave it out before {context.invoked_subcommand}.")
        return
    if file is None:
        typer.echo(context.get_help())
        return
    traffic = Traffic(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        rate=rate,
        ttft=None if ttft is None else seconds(ttft, option="--ttft"),
        itl=None if itl is None else seconds(itl, option="--itl"),
    )
    if rate is not None and rate <= 0:
        raise Unusable(f"--rate {rate:g}: name a rate above 0.")
    calibrations = read_calibrations(calibration or [])
    questions = _Questions(traffic=traffic, calibrations=calibrations, model=None if model is None else read_model(model))
    manifests = read_manifests(file)
    specs = _checked(manifests.ours)
    away = None if offline_only else Door(place, own_classes=accelerators is not None)
    reviews = [_review(manifest, spec, questions, away, place) for manifest, spec in zip(manifests.ours, specs, strict=True)]
    if as_json:
        typer.echo(json.dumps(telling.as_body(reviews, manifests.others), indent=2))
    else:
        console = Console(width=None if Console().is_terminal else options.WIDE, highlight=False)
        telling.tell(console, reviews, manifests.others, diff=diff)
    _end(reviews, strict=strict, detailed=detailed)


def _end(reviews: list[Review], *, strict: bool, detailed: bool) -> None:
    failed = [each for each in reviews if not each.passes(strict=strict)]
    if failed:
        names = ", ".join(f"{each.namespace}/{each.name}" for each in failed)
        raise CliError(f"{names} would not work as written.")
    if detailed and any(each.changes for each in reviews):
        raise typer.Exit(CHANGES)


def _checked(manifests: tuple[Manifest, ...]) -> list[Spec]:
    """All of them, so that every mistake of a file is told at once."""
    specs: list[Spec] = []
    mistakes: list[str] = []
    for manifest in manifests:
        try:
            specs.append(manifest.spec())
        except Unusable as error:
            mistakes.append(str(error))
    if mistakes:
        raise Unusable("it cannot be applied as it is written.\n" + "\n".join(mistakes))
    return specs


def _review(manifest: Manifest, spec: Spec, questions: _Questions, door: Door | None, place: options.Place) -> Review:
    """Of one object; where the cluster goes away meanwhile, of what can be said without it."""
    namespace = manifest.namespace or place.namespace or "default"
    review = Review(kind=manifest.kind, namespace=namespace, name=manifest.name, where=manifest.where())
    live, installation, supply = offline(manifest, namespace=namespace), fresh(), None
    if door is not None:
        cluster = door.cluster(manifest, place.namespace)
        review.namespace = cluster.namespace
        try:
            if door.closed is not None:
                raise Unreachable(door.closed)
            installation, live, supply = ask(review, manifest, spec, cluster, door)
        except (Unreachable, Conflict) as error:
            review.problems.append(f"{error} What needs the cluster is left out; --offline asks for the rest alone.")
    try:
        _fill(review, manifest, spec, questions, live, installation, supply)
    except InvalidSpec as error:
        raise manifest.unusable(error) from None
    if door is not None and supply is None:  # It cannot be told what is there, and so not what would change.
        review.children, review.rollout = None, []
    return review


def _fill(
    review: Review,
    manifest: Manifest,
    spec: Spec,
    questions: _Questions,
    live: Live,
    installation: Installation,
    supply: Supply | None,
) -> None:
    """Raises InvalidSpec where the controller would refuse it."""
    review.children = children_of(live.observed, installation.settings, before=live.before, certain=not installation.untold)
    taken = [change for change in review.children.changes if change.action == "taken"]
    rename = f"rename the {manifest.kind}, or delete that"
    review.problems += [f"{change.kind} {change.name} is somebody else's object: {rename}." for change in taken]
    if not isinstance(spec, LLMDeploymentSpec):
        return
    review.accelerator = accelerator = find_accelerator(spec.accelerator)
    running = running_engines(live.observed)
    review.rollout = rollout_of(spec, review.children.changes, name=manifest.name, running=running)
    if not accelerator.simulated:
        for facts in _facts(review, spec, live, questions.model):
            chosen = questions.calibrations.get(accelerator.name)
            add_figures(review, spec, accelerator, facts, questions.traffic, chosen)
        add_bill(review, spec, accelerator, spot=installation.settings.spot)
    if supply is not None:
        add_capacity(review, spec, accelerator, supply, live.observed)


def _facts(
    review: Review, spec: LLMDeploymentSpec, live: Live, instead: ModelFacts | None
) -> Iterator[tuple[ModelFacts, ModelFacts | None]]:
    """Those that the controller read of the same files, or what the files say from here; nothing where neither can be."""
    known = known_facts(live.before, live.after)
    if known is not None and instead is None:
        yield known
        return
    speculative = spec.engine.speculative
    draft = speculative.draft_model if speculative is not None else None
    read = [draft or ""] if instead is not None else [spec.model.source, draft or ""]
    if any(source.startswith("pvc://") for source in read):
        review.untold.append(
            "Whether the model fits, and how fast it is, cannot be told: they are in a claim, which is not read from here. "
            "The controller reads them once it is applied; before, give a folder with the same files by --model."
        )
        return
    try:
        revision = speculative.draft_revision if speculative is not None else None
        yield (
            instead or read_model(spec.model.source, revision=spec.model.revision),
            None if draft is None else read_model(draft, revision=revision),
        )
    except TokenfleetError as error:
        review.untold.append(f"Whether the model fits, and how fast it is, cannot be told: {error}")
