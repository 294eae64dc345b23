"""`tokenfleet-engine serve`: check the model's files and the flags, say what will run, and run vLLM on them."""

import argparse
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenfleet_engine import failures
from tokenfleet_engine.commands import arguments
from tokenfleet_engine.serving.drain import Drain, LocalEngine
from tokenfleet_engine.launch import command
from tokenfleet_engine.launch.model_files import inspect_model
from tokenfleet_engine.launch.supervisor import supervise
from tokenfleet_engine.say import say


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "serve",
        help="check the model's files and run vLLM on them",
        description="Check the model's files, print what will run, and run vLLM with Tokenfleet's admission around it. SIGTERM "
        "drains first: running requests finish.",
        usage="%(prog)s --model PATH --served-name NAME [options] [-- VLLM-FLAG …]",
        epilog="All that stands behind -- goes to vLLM as it is: -- --max-model-len 4096 --dtype bfloat16",
    )
    parser.add_argument(
        "--model", type=Path, required=True, metavar="PATH", help="directory with config.json, weights and tokenizer"
    )
    parser.add_argument("--served-name", required=True, metavar="NAME", help="the name that requests give in `model`")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    arguments.add_port(parser, help_text="port to listen on")
    parser.add_argument("--check", action="store_true", help="check the files and print the plan, but run nothing")
    arguments.add_termination_log(parser)
    arguments.add_drain_seconds(parser, "--drain-seconds", "after SIGTERM, how long running requests may take to finish")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace, flags: Sequence[str]) -> int:
    build = command.find_build()
    command.check_flags(flags)
    dummy = "--load-format=dummy" in flags or ("--load-format", "dummy") in itertools.pairwise(flags)
    tokenizer = not any(flag.split("=")[0] in {"--skip-tokenizer-init", "--tokenizer"} for flag in flags)
    model = inspect_model(given.model, weights=not dummy, tokenizer=tokenizer)
    command.check_shared_memory()
    served = command.build_command(
        model, served_name=given.served_name, host=given.host, port=given.port, flags=flags,
        build=build, environment=os.environ,
    )  # fmt: skip
    plan = command.describe(served, model=model, build=build, flags=flags, drain_seconds=given.drain_seconds, port=given.port)
    print(plan, flush=True)
    if given.check:
        return 0

    def goodbye(hurry: Callable[[], bool]) -> None:
        engine = LocalEngine(port=given.port)
        Drain(engine=engine, timeout=given.drain_seconds, say=say, gone=hurry).run()

    ending = supervise(served, goodbye=goodbye)
    if ending.failure is not None:
        failures.report(ending.failure, note=given.termination_log)
    return ending.code
