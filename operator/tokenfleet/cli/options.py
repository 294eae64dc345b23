"""Options that many commands have, each written once; those that choose a cluster come with `in_cluster`."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_type_hints

import typer

from tokenfleet.cli.errors import Unusable

_Result = TypeVar("_Result")

Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Of the LLMDeployment; that of the context where left out.")
]
Context = Annotated[str | None, typer.Option("--context", help="Of the kubeconfig; the current one where left out.")]
Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="KUBECONFIG, or ~/.kube/config, where left out.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


def names(context: typer.Context, incomplete: str) -> list[str]:
    """LLMDeployments whose name begins so, for completion."""
    from tokenfleet.cli.completion import deployment_names

    return deployment_names(context.params, incomplete)


Name = Annotated[str, typer.Argument(help="Of the LLMDeployment.", show_default=False, autocompletion=names)]


def _extend(path: Path | None) -> Path | None:
    """Before the command runs, so that it finds the cluster's own classes and prices."""
    if path is not None:
        from tokenfleet.planning.accelerators import InvalidAccelerators, extend

        try:
            extend(path.read_text(encoding="utf-8"), origin=str(path))
        except (InvalidAccelerators, UnicodeDecodeError) as error:
            raise Unusable(f"--accelerators: {error}") from error
        except OSError as error:
            raise Unusable(f"--accelerators {path}: {error.strerror or error}.") from error
    return path


Accelerators = Annotated[
    Path | None,
    typer.Option(
        "--accelerators",
        envvar="TOKENFLEET_ACCELERATORS_FILE",
        callback=_extend,
        is_eager=True,
        show_envvar=True,
        help="Classes and prices of one's own, in TOML or JSON (docs/accelerators.md).",
    ),
]
"""A command that looks at accelerators takes `_accelerators: options.Accelerators = None`; that is all."""

WIDE: Final = 1_000
"""Columns of what is no terminal: there, a row is one line."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which cluster, and which of its namespaces, as the command line has it."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None


_CHOICES: Final = {"namespace": Namespace, "kube_context": Context, "kubeconfig": Kubeconfig}


def in_cluster(command: Callable[..., _Result]) -> Callable[..., _Result]:
    """A command that takes `place: Place`, with --namespace, --context and --kubeconfig in its stead.

    A command that says of what its namespace is declares `namespace` itself, and gets it beside the place.
    """
    hints, signature = get_type_hints(command, include_extras=True), inspect.signature(command)
    own = [each for each in signature.parameters.values() if each.name != "place"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _CHOICES.items()
        if name not in signature.parameters
    ]

    @functools.wraps(command)
    def placed(**given: Any) -> _Result:
        namespace = given["namespace"] if "namespace" in signature.parameters else given.pop("namespace")
        place = Place(namespace, given.pop("kube_context"), given.pop("kubeconfig"))
        return command(**given, place=place)

    whole = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + added
    placed.__signature__ = signature.replace(parameters=whole)  # type: ignore[attr-defined]
    placed.__annotations__ = {name: kind for name, kind in hints.items() if name != "place"} | {
        each.name: each.annotation for each in added
    }
    del placed.__wrapped__
    return placed
