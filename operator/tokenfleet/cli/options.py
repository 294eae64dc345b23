"""Options that many commands have."""

from pathlib import Path
from typing import Annotated, Final

import typer

Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Of the LLMDeployment; that of the context where left out.")
]
Context = Annotated[str | None, typer.Option("--context", help="Of the kubeconfig; the current one where left out.")]
Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="KUBECONFIG, or ~/.kube/config, where left out.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Name = Annotated[str, typer.Argument(help="Of the LLMDeployment.", show_default=False)]

WIDE: Final = 1_000
"""Columns of what is no terminal: there, a row is one line."""
