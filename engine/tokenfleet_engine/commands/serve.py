"""`tokenfleet-engine serve`: check the model's files and the flags, say what will run, and run vLLM on them."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenfleet import contract
from tokenfleet_engine import failures
from tokenfleet_engine.commands import arguments
from tokenfleet_engine.launch import command, model_classes
from tokenfleet_engine.launch.features import plan_features
from tokenfleet_engine.launch.flags import read_known
from tokenfleet_engine.launch.limits import check_limits, check_room
from tokenfleet_engine.launch.model_files import inspect_model
from tokenfleet_engine.launch.supervisor import supervise
from tokenfleet_engine.launch.user_flags import UserFlags, read_flags
from tokenfleet_engine.say import say
from tokenfleet_engine.serving.drain import Drain, LocalEngine


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "serve",
        help="check the model's files and run vLLM on them",
        description="Check the model's files and the flags, print what will run, and run vLLM with Tokenfleet's admission "
        "around it. SIGTERM drains first: running requests finish.",
        usage="%(prog)s --model PATH --served-name NAME [options] [-- VLLM-FLAG …]",
        epilog="All that stands behind -- goes to vLLM as it is: -- --max-model-len 4096 --dtype bfloat16",
    )
    parser.add_argument(
        "--model", type=Path, required=True, metavar="PATH", help="directory with config.json, weights and tokenizer"
    )
    parser.add_argument("--served-name", required=True, metavar="NAME", help="the name that requests give in `model`")
    _add_features(parser)
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    arguments.add_port(parser, help_text="port to listen on")
    arguments.add_admission(parser)
    parser.add_argument("--check", action="store_true", help="check the files and print the plan, but run nothing")
    arguments.add_termination_log(parser)
    arguments.add_drain_seconds(parser, "--drain-seconds", "after SIGTERM, how long running requests may take to finish")
    parser.set_defaults(run=run)


def _add_features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--speculative", metavar="JSON",
        help='speculative decoding: {"method": "draft"|"ngram"|"eagle3", "num_tokens": N} and, for ngram, '
        '"prompt_lookup_min" and "prompt_lookup_max"',
    )  # fmt: skip
    parser.add_argument("--draft-model", type=Path, metavar="PATH", help="directory of the draft model or EAGLE-3 head")
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="NAME=PATH",
        help="a LoRA adapter, which requests ask for by this name; may be given again",
    )  # fmt: skip
    parser.add_argument("--sleep", action="store_true", help="let the engine be put to sleep and woken (GPUs)")


def run(given: argparse.Namespace, flags: Sequence[str]) -> int:
    served, plan = _prepare(given, flags)
    print(plan, flush=True)
    if given.check:
        return 0
    model_classes.lay_out(os.environ)

    def goodbye(hurry: Callable[[], bool]) -> None:
        engine = LocalEngine(port=given.port)
        Drain(engine=engine, timeout=given.drain_seconds, say=say, gone=hurry).run()

    ending = supervise(served, goodbye=goodbye)
    if ending.failure is not None:
        failures.report(ending.failure, note=given.termination_log)
    return ending.code


def _prepare(given: argparse.Namespace, flags: Sequence[str]) -> tuple[command.ServeCommand, str]:
    """All that can be said before vLLM runs: its command line and the plan for people. Raises EngineFailure."""
    build = command.find_build()
    known = read_known(version=build.version)
    user = read_flags(flags, known=known)
    model = inspect_model(given.model, weights=user.value("--load-format") != "dummy", tokenizer=_needs_tokenizer(user))
    check_limits(model, user=user, known=known)
    features = plan_features(
        model=model, served_name=given.served_name, speculative=given.speculative, draft=given.draft_model,
        adapters=given.adapter, sleep=given.sleep, cpu=build.cpu, user=user,
    )  # fmt: skip
    command.check_shared_memory()
    served = command.build_command(
        model, served_name=given.served_name, host=given.host, port=given.port, user=user, build=build,
        environment=os.environ, features=features, admission=_admission(given),
    )  # fmt: skip
    if served.cache_bytes:
        check_room(model, cache_bytes=served.cache_bytes, user=user)
    plan = command.describe(
        served, model=model, build=build, user=user, features=features, drain_seconds=given.drain_seconds, port=given.port
    )
    return served, plan


def _needs_tokenizer(user: UserFlags) -> bool:
    return not (user.has("--skip-tokenizer-init") or user.has("--tokenizer"))


def _admission(given: argparse.Namespace) -> dict[str, str]:
    """The bounds for admission, which runs in vLLM's process and reads them from its environment."""
    bounds = {
        contract.ENV_ENGINE_MAX_IN_FLIGHT: given.max_in_flight,
        contract.ENV_ENGINE_MAX_WAITING: given.max_waiting,
        contract.ENV_ENGINE_MAX_QUEUE_SECONDS: given.max_queue_seconds,
    }
    return {name: str(value) for name, value in bounds.items() if value is not None}
