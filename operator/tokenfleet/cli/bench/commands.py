"""`tokenfleet bench`: its commands."""

import typer

from tokenfleet.cli.bench.compare import compare_runs
from tokenfleet.cli.bench.report import report
from tokenfleet.cli.bench.run import run

app = typer.Typer(no_args_is_help=True, help="Load tests of an LLMDeployment, or of any server of OpenAI's API.")
app.command("run")(run)
app.command("report")(report)
app.command("compare")(compare_runs)
