"""`tokenfleet tune`: its commands."""

import typer

from tokenfleet.cli.tune.batch import batch

app = typer.Typer(no_args_is_help=True, help="Settings of engines that are found by trying.")
app.command("batch")(batch)


@app.callback()
def tune() -> None:
    """Settings of engines that are found by trying, with a load like yours on an engine of yours."""
