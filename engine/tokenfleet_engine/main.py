"""`tokenfleet-engine`: serve a model, or take the engine beside it out of service.

Reads the command line and this process's environment, calls the parts in order, and turns failures into one line on
stderr, a note for the kubelet and an exit code. Holds no logic of its own.
"""

import argparse
import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tokenfleet import contract
from tokenfleet_engine import command, failures
from tokenfleet_engine.drain import Drain, LocalEngine
from tokenfleet_engine.model_files import inspect_model
from tokenfleet_engine.supervisor import supervise

POD_LOG: Final = Path("/proc/1/fd/1")
"""What a preStop hook prints is shown to nobody; what it writes here stands in the pod's log."""


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    own, flags = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    arguments = _parser().parse_args(own)
    if arguments.name == "drain":
        return _drain(arguments)
    try:
        return _serve(arguments, flags)
    except failures.EngineFailure as failure:
        _report(failure, arguments.termination_log)
        return failures.EXIT_CODE


def _serve(arguments: argparse.Namespace, flags: Sequence[str]) -> int:
    build = command.find_build()
    command.check_flags(flags)
    dummy = "--load-format=dummy" in flags or ("--load-format", "dummy") in itertools.pairwise(flags)
    tokenizer = not any(flag.split("=")[0] in {"--skip-tokenizer-init", "--tokenizer"} for flag in flags)
    model = inspect_model(arguments.model, weights=not dummy, tokenizer=tokenizer)
    command.check_shared_memory()
    served = command.build_command(
        model, served_name=arguments.served_name, host=arguments.host, port=arguments.port, flags=flags,
        build=build, environment=os.environ,
    )  # fmt: skip
    plan = command.describe(
        served, model=model, build=build, flags=flags, drain_seconds=arguments.drain_seconds, port=arguments.port
    )
    print(plan, flush=True)
    if arguments.check:
        return 0

    def goodbye(hurry: Callable[[], bool]) -> None:
        engine = LocalEngine(port=arguments.port)
        Drain(engine=engine, timeout=arguments.drain_seconds, say=_say, gone=hurry).run()

    ending = supervise(served, goodbye=goodbye)
    if ending.failure is not None:
        _report(ending.failure, arguments.termination_log)
    return ending.code


def _drain(arguments: argparse.Namespace) -> int:
    Drain(engine=LocalEngine(port=arguments.port), timeout=arguments.timeout, say=_say_in_pod_log).run()
    return 0


def _report(failure: failures.EngineFailure, note: Path) -> None:
    print(f"tokenfleet-engine: {failure.reason}: {failure.message}", file=sys.stderr, flush=True)
    failures.leave_note(failure, path=note)


def _say(line: str) -> None:
    sys.stdout.write(f"tokenfleet-engine: {line}\n")  # in one piece: the engine's lines go to the same place
    sys.stdout.flush()


def _say_in_pod_log(line: str) -> None:
    _say(line)
    with contextlib.suppress(OSError), POD_LOG.open("a") as log:
        log.write(f"tokenfleet-engine: {line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tokenfleet-engine", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    _add_serve(commands.add_parser(
        "serve",
        help="check the model's files and run vLLM on them",
        description="Check the model's files, print what will run, and run vLLM with Tokenfleet's admission around it. SIGTERM "
        "drains first: running requests finish.",
        usage="%(prog)s --model PATH --served-name NAME [options] [-- VLLM-FLAG …]",
        epilog="All that stands behind -- goes to vLLM as it is: -- --max-model-len 4096 --dtype bfloat16",
    ))  # fmt: skip
    _add_drain(commands.add_parser(
        "drain", help="refuse new requests and wait for the running ones (for preStop)",
        description="Tell the engine in this pod to refuse new requests, and wait until nothing is in flight or the time is "
        "over. Returns at once where no engine serves. Always exits with 0: a hook that fails would only end the pod sooner.",
    ))  # fmt: skip
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--model", type=Path, required=True, metavar="PATH", help="directory with config.json, weights and tokenizer"
    )
    serve.add_argument("--served-name", required=True, metavar="NAME", help="the name that requests give in `model`")
    serve.add_argument("--host", default="0.0.0.0", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=contract.ENGINE_PORT, help="port to listen on (default: %(default)s)")
    serve.add_argument("--check", action="store_true", help="check the files and print the plan, but run nothing")
    serve.add_argument(
        "--termination-log", type=Path, default=Path(contract.TERMINATION_LOG_PATH), metavar="FILE",
        help="where to leave the reason of a failure (default: %(default)s)",
    )  # fmt: skip
    _add_seconds(serve, "--drain-seconds", "after SIGTERM, how long running requests may take to finish")


def _add_drain(drain: argparse.ArgumentParser) -> None:
    drain.add_argument("--port", type=int, default=contract.ENGINE_PORT, help="the engine's port (default: %(default)s)")
    _add_seconds(drain, "--timeout", "how long to wait at most; counted from when the drain began")


def _add_seconds(parser: argparse.ArgumentParser, name: str, help_text: str) -> None:
    default = os.environ.get(contract.ENV_DRAIN_SECONDS, "") or "600"  # a text, so that argparse checks it as it does a flag
    parser.add_argument(
        name, type=_seconds, default=default, metavar="SECONDS",
        help=f"{help_text} (default: {contract.ENV_DRAIN_SECONDS}, else 600)",
    )  # fmt: skip


def _seconds(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    raise SystemExit(main())
