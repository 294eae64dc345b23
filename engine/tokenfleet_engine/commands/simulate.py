"""`tokenfleet-engine simulate`: serve as an engine does, without vLLM or a model; or measure a real one for its timing.

Reads the command line and hands it on. What needs a web server is imported when it is needed, since every command of the engine
loads this module.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from tokenfleet import contract
from tokenfleet_engine.commands import arguments


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "simulate",
        help="serve as an engine does, without vLLM or a model",
        description="Serve the same HTTP surface, admission, drain and metrics as a real engine, with a simulated scheduler "
        "and a timing model. Or, with --fit, measure a real engine and write its timing model.",
        usage="%(prog)s --served-name NAME [options] [-- FLAG …]",
        epilog="Behind -- stand vLLM's flags for batching and cache, and those of the simulation: see docs/simulator.md.",
    )
    parser.add_argument("--served-name", metavar="NAME", help="the name that requests give in `model`")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    arguments.add_port(parser, help_text="port to listen on")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        type=_adapter,
        metavar="NAME=PATH",
        help="an adapter's name; PATH is only shown",
    )
    for name, variable in BOUNDS.items():
        parser.add_argument(name, metavar="N", help=f"admission's bound, instead of {variable}")
    arguments.add_termination_log(parser)
    arguments.add_drain_seconds(parser, "--drain-seconds", "after SIGTERM, how long running requests may take to finish")
    parser.add_argument("--fit", metavar="URL", help="measure the real, idle engine there and write a timing file")
    parser.add_argument("--timing-out", type=Path, metavar="FILE", help="where --fit writes")
    parser.add_argument("--hardware", default="unknown", metavar="WORDS", help="what the measured engine runs on, for the file")
    parser.set_defaults(run=run, parser=parser)


BOUNDS = {
    "--max-in-flight": contract.ENV_ENGINE_MAX_IN_FLIGHT,
    "--max-waiting": contract.ENV_ENGINE_MAX_WAITING,
    "--max-queue-seconds": contract.ENV_ENGINE_MAX_QUEUE_SECONDS,
}


def run(given: argparse.Namespace, flags: Sequence[str]) -> int:
    from tokenfleet_engine.simulation.settings import read_settings

    settings = read_settings(flags)
    if given.fit is not None:
        if given.timing_out is None:
            given.parser.error("--fit needs --timing-out FILE")
        from tokenfleet_engine.simulation.fitting.run import fit

        return fit(given.fit, settings, out=given.timing_out, hardware=given.hardware)
    if given.served_name is None:
        given.parser.error("the following arguments are required: --served-name")
    from tokenfleet_engine.simulation.describe import describe
    from tokenfleet_engine.simulation.models import Models
    from tokenfleet_engine.simulation.server import Place, serve

    models = Models(given.served_name, settings.max_model_len, dict(given.adapter))
    print(describe(models, settings, port=given.port, drain_seconds=given.drain_seconds), flush=True)
    place = Place(
        host=given.host, port=given.port, drain_seconds=given.drain_seconds, termination_log=given.termination_log,
        environment=_environment(given),
    )  # fmt: skip
    return serve(models, settings, place)


def _environment(given: argparse.Namespace) -> dict[str, str]:
    bounds = {variable: getattr(given, name[2:].replace("-", "_")) for name, variable in BOUNDS.items()}
    return {**os.environ, **{variable: value for variable, value in bounds.items() if value is not None}}


def _adapter(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, path
