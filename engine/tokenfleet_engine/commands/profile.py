"""`tokenfleet-engine profile`: measure the phases of an engine of our own, or trace a running one."""

import argparse
from pathlib import Path

from tokenfleet import contract
from tokenfleet_engine.profiling import phases, tracing
from tokenfleet_engine.profiling.live import check_url


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "profile", help="measure prefill, decode and memory apart, or trace a running engine",
        description="Measure what an engine's phases take, or trace the operations of one that runs.",
    )  # fmt: skip
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    _register_phases(kinds)
    _register_trace(kinds)


def _register_phases(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = kinds.add_parser(
        "phases", help="prefill and decode step by step, and memory by context",
        description="Load the model into an engine in this process, measure prefill by prompt length and decode by batch and "
        "context, step by step, and write profile.json, report.html and plots. Needs the device to itself.",
        usage="%(prog)s --model PATH --out DIR [options] [-- VLLM-FLAG …]",
        epilog="All that stands behind -- goes to vLLM, as it does with serve: -- --max-model-len 4096 --dtype bfloat16",
    )  # fmt: skip
    parser.add_argument("--model", type=Path, required=True, metavar="PATH", help="directory with config.json and weights")
    _add_out(parser, "profile.json, report.html and *.png")
    for flag, what in (("--prompt-tokens", "lengths of prompts"), ("--batch", "sequences in a decode step"),
                       ("--context", "tokens that each of them has")):  # fmt: skip
        help_text = f"{what}, such as 128,512 (default: powers of two, as far as the engine goes)"
        parser.add_argument(flag, type=numbers, metavar="N,N…", help=help_text)
    parser.add_argument("--repeat", type=positive, default=5, metavar="N", help="prompts of each length (default: %(default)s)")
    parser.add_argument(
        "--decode-steps", type=positive, default=20, metavar="N", help="steps of each batch (default: %(default)s)"
    )
    for flag, default, of_what in (("--max-seconds", 900, "all points together, once the model is loaded"),
                                   ("--point-seconds", 120, "one point")):  # fmt: skip
        help_text = f"time limit of {of_what} (default: %(default)s)"
        parser.add_argument(flag, type=positive, default=default, metavar="N", help=help_text)
    parser.set_defaults(run=phases.run)


def _register_trace(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = kinds.add_parser(
        "trace", help="operations of a running engine, by torch's profiler",
        description="Switch a running engine's profiler on, send it a few requests, fetch the traces (Chrome's format) and say "
        "which operations took longest. Runs in the engine's pod; the engine has to be started with --profiler-config.",
    )  # fmt: skip
    parser.add_argument(
        "--url", type=check_url, default=f"http://127.0.0.1:{contract.ENGINE_PORT}", metavar="URL",
        help="the engine (default: %(default)s)",
    )  # fmt: skip
    _add_out(parser, "the traces and trace.json")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=positive, metavar="N", help="trace for so long, sending requests all the while")
    length.add_argument(
        "--requests", type=positive, default=4, metavar="N", help="trace so many requests (default: %(default)s)"
    )
    parser.add_argument("--at-once", type=positive, default=4, metavar="N", help="requests at a time (default: %(default)s)")
    parser.add_argument("--no-requests", action="store_true", help="send none: trace what others ask of it; with --seconds")
    parser.add_argument("--prompt-words", type=positive, default=64, metavar="N", help="of each request (default: %(default)s)")
    parser.add_argument("--max-tokens", type=positive, default=32, metavar="N", help="of each answer (default: %(default)s)")
    parser.add_argument(
        "--trace-dir", type=Path, metavar="DIR",
        help="where the engine writes (default: as the command line of the engine beside this process says)",
    )  # fmt: skip
    parser.set_defaults(run=tracing.run)


def _add_out(parser: argparse.ArgumentParser, contents: str) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"where to write {contents}")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout instead of tables")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def numbers(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))
