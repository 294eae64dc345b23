"""`tokenfleet-engine inspect`: say what a model is, by its config.json and the headers of its weights. For inspection pods."""

import argparse
import json
import sys
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.commands import arguments
from tokenfleet_engine.inspection.inspect import DEADLINE_SECONDS, inspect_source

_DESCRIPTION: Final = f"""\
Read a model's config.json and the headers of its safetensors, of which no weight is part, and print them as one line:
{contract.INSPECTION_PREFIX}{{"model": …, "draft": …}}. Needs neither vLLM nor a GPU.

A model is a directory, or hf://ORGANISATION/NAME[@REVISION], s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, with the same
credentials in the environment as for `fetch`.
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "inspect", help="say what a model is, without reading its weights",
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("source", metavar="MODEL", help="a directory, or a URL as `fetch` takes it")
    parser.add_argument("--draft", metavar="MODEL", help="likewise, of the model that guesses ahead")
    parser.add_argument(
        "--deadline", type=arguments.positive_seconds, default=DEADLINE_SECONDS, metavar="SECONDS",
        help="give up on each after so long (default: %(default)s)",
    )  # fmt: skip
    arguments.add_termination_log(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace, _: Any) -> int:
    model = inspect_source(given.source, seconds=given.deadline)
    draft = inspect_source(given.draft, seconds=given.deadline) if given.draft else None
    line = json.dumps({"model": model, "draft": draft}, separators=(",", ":"), ensure_ascii=False)
    sys.stdout.write(f"{contract.INSPECTION_PREFIX}{line}\n")
    sys.stdout.flush()
    return 0
