"""The flags behind `--`, as a simulated engine reads them: vLLM's own where they mean something here, and the simulation's.

An unknown flag is a failure with the list of those that there are, as it is for a real engine. vLLM's flags that say how a real
model is loaded or computed are taken and have no effect, so that one set of flags serves both; the log names them.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.simulation.faults import Orders
from tokenfleet_engine.simulation.scheduler import Limits
from tokenfleet_engine.simulation.timing import DEFAULT, Timing, constant_timing, read_timing

WITHOUT_EFFECT: Final = {
    "--dtype": 1, "--enforce-eager": 0, "--gpu-memory-utilization": 1, "--kv-cache-dtype": 1, "--load-format": 1,
    "--pipeline-parallel-size": 1, "--quantization": 1, "--tensor-parallel-size": 1, "--trust-remote-code": 0,
}  # fmt: skip
"""Flags of vLLM, and how many values each has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    max_model_len: int
    limits: Limits
    timing: Timing
    speed: float
    seed: int
    answer_tokens: int
    startup_seconds: float
    orders: Orders
    ignored: tuple[str, ...]


def read_settings(flags: Sequence[str]) -> Settings:
    parser = _parser()
    given = parser.parse_args(list(flags))
    limits = Limits(
        max_num_seqs=given.max_num_seqs,
        max_num_batched_tokens=given.max_num_batched_tokens or max(8192, given.max_model_len),
        block_size=given.block_size,
        blocks=given.kv_tokens // given.block_size if given.kv_blocks is None else given.kv_blocks,
        prefix_caching=given.enable_prefix_caching,
        chunked_prefill=given.enable_chunked_prefill,
    )
    _check(given, limits)
    return Settings(
        max_model_len=given.max_model_len, limits=limits, timing=_timing(given, limits), speed=given.speed, seed=given.seed,
        answer_tokens=given.answer_tokens, startup_seconds=given.startup_seconds, orders=_orders(given),
        ignored=tuple(name for name in WITHOUT_EFFECT if getattr(given, _field(name))),
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tokenfleet-engine simulate … --", add_help=False, allow_abbrev=False)
    parser.add_argument("--max-model-len", type=_positive, default=8192)
    parser.add_argument("--max-num-seqs", type=_positive, default=256)
    parser.add_argument("--max-num-batched-tokens", type=_positive)
    parser.add_argument("--block-size", type=_positive, default=16)
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--enable-chunked-prefill", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--kv-tokens", type=_positive, default=131072)
    parser.add_argument("--kv-blocks", type=_positive)
    parser.add_argument("--timing", type=Path)
    parser.add_argument("--ttft-ms", type=_seconds)
    parser.add_argument("--itl-ms", type=_seconds)
    parser.add_argument("--speed", type=_seconds, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--answer-tokens", type=int, default=256)
    parser.add_argument("--startup-seconds", type=_seconds, default=0.0)
    parser.add_argument("--fail-rate", type=_share, default=0.0)
    parser.add_argument("--abort-rate", type=_share, default=0.0)
    parser.add_argument("--crash-after", type=_seconds)
    parser.add_argument("--crash-after-requests", type=int)
    parser.add_argument("--crash-code", type=int, default=1)
    parser.add_argument("--hang-after", type=_seconds)
    parser.add_argument("--unhealthy-after", type=_seconds)
    parser.add_argument("--slow-after", type=_seconds, default=0.0)
    parser.add_argument("--slow-factor", type=_seconds, default=1.0)
    for name, values in WITHOUT_EFFECT.items():
        parser.add_argument(name, action="store" if values else "store_true")
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        known = ", ".join(sorted(name for name in self._option_string_actions if name not in WITHOUT_EFFECT))
        raise _invalid(
            f"The simulator cannot read its flags: {message}. It knows {known}, and ignores {', '.join(WITHOUT_EFFECT)}."
        )


def _timing(given: argparse.Namespace, limits: Limits) -> Timing:
    if given.ttft_ms is None and given.itl_ms is None:
        return read_timing(given.timing or DEFAULT)
    if given.timing is not None or given.ttft_ms is None or given.itl_ms is None:
        raise _invalid(
            "--ttft-ms and --itl-ms belong together, and say the same as --timing: give both of them, or --timing alone."
        )
    return constant_timing(ttft_ms=given.ttft_ms, itl_ms=given.itl_ms, max_num_batched_tokens=limits.max_num_batched_tokens)


def _orders(given: argparse.Namespace) -> Orders:
    return Orders(**{name: getattr(given, name) for name in Orders.__dataclass_fields__})


def _check(given: argparse.Namespace, limits: Limits) -> None:
    room = limits.blocks * limits.block_size
    if room < given.max_model_len:
        raise _invalid(
            f"The KV cache has room for {room} tokens and one sequence may have {given.max_model_len}: raise --kv-tokens, or "
            "lower --max-model-len."
        )
    if not limits.chunked_prefill and limits.max_num_batched_tokens < given.max_model_len:
        raise _invalid(
            f"Without chunked prefill a prompt is read in one step, and --max-num-batched-tokens "
            f"{limits.max_num_batched_tokens} is less than --max-model-len {given.max_model_len}: raise it, or leave chunked "
            "prefill on."
        )
    if given.speed == 0:
        raise _invalid("--speed 0 would never answer: give a factor above 0, 2 for twice as fast.")


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def _seconds(text: str) -> float:
    if not 0 <= (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number from 0")
    return value


def _share(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share from 0 to 1")
    return value


def _field(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, message)
