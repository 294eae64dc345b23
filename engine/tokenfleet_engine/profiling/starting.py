"""Starts vLLM in this process for a measurement, with the flags that a pod's engine has, and says why it cannot.

Three settings are ours and win: no prefix cache (a prompt measured twice must cost the same), no asynchronous scheduling (a
step must end before the next begins), and no engine process of its own. Server's flags are accepted and without effect, so
that an engine's extraArgs can be given as they are. Must be called before anything imports torch or vLLM: they read the
environment as they are imported.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, Final, NoReturn

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch import symptoms
from tokenfleet_engine.launch.cgroup import cpu_limit
from tokenfleet_engine.launch.command import CPU_CACHE_BYTES
from tokenfleet_engine.profiling.devices import find_device
from tokenfleet_engine.profiling.vllm_engine import VllmEngine

OURS: Final = ("--no-enable-prefix-caching", "--no-async-scheduling", "--disable-log-stats")
REFUSED: Final = {
    "--model": "it stands before --",
    "--data-parallel-size": "one engine is measured at a time",
    "-dp": "one engine is measured at a time",
    "--pipeline-parallel-size": "with it several steps are under way at once, and none has a time of its own",
    "-pp": "with it several steps are under way at once, and none has a time of its own",
}
BESIDE: Final = (
    "Where an engine serves on the same device, it holds the memory: profile in a Job of its own, or give this one a small "
    "--gpu-memory-utilization or --kv-cache-memory-bytes."
)


def check_flags(flags: Sequence[str]) -> None:
    for flag in flags:
        name = flag.split("=", 1)[0].replace("_", "-")
        if name in REFUSED:
            raise _invalid(f"{name} cannot be profiled: {REFUSED[name]}. Remove it.")


def prepare_environment(environment: MutableMapping[str, str], *, cpu: bool) -> None:
    environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    environment.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    environment.setdefault("HF_HUB_OFFLINE", "1")
    if cpu:
        environment.setdefault("OMP_NUM_THREADS", str(cpu_limit()))


def all_flags(flags: Sequence[str], *, model: str, cpu: bool, compiler: bool, cache_chosen: bool) -> list[str]:
    """What vLLM's parser gets. On a CPU the KV cache is small unless chosen: the points that do not fit are left out."""
    given = {flag.split("=", 1)[0] for flag in flags}
    added: list[str] = []
    if cpu and not cache_chosen and "--kv-cache-memory-bytes" not in given:
        added += ["--kv-cache-memory-bytes", str(CPU_CACHE_BYTES)]
    if cpu and not compiler and not given & {"--enforce-eager", "--no-enforce-eager"}:
        added.append("--enforce-eager")  # torch.compile needs a C++ compiler on a CPU
    return ["--model", model, *added, *flags, *OURS]


def start(flags: Sequence[str], *, clock: Callable[[], float]) -> VllmEngine:
    """`flags` as all_flags has them. Raises EngineFailure with vLLM's own words in it."""
    with explained():
        from vllm.engine.arg_utils import EngineArgs
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.platforms import current_platform
        from vllm.utils.argparse_utils import FlexibleArgumentParser
        from vllm.v1.engine.llm_engine import LLMEngine

        parser = make_arg_parser(FlexibleArgumentParser())
        parser.error = _refuse
        given = parser.parse_args(list(flags))
        llm: Any = LLMEngine.from_engine_args(EngineArgs.from_cli_args(given))
        kind = str(current_platform.device_type)
        name = "" if kind == "cpu" else str(current_platform.get_device_name())
        return VllmEngine(llm, device=find_device(kind, name=name), clock=clock)


@contextlib.contextmanager
def stdout_for_us() -> Iterator[None]:
    """Send what vLLM, torch and their native code print to stderr meanwhile: our table or JSON has stdout to itself."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(ours, 1)
        os.close(ours)


def explain(error: Exception) -> EngineFailure:
    """Of an exception out of vLLM."""
    known = symptoms.explain(
        "".join(traceback.format_exception(error)).splitlines(), status=1, served=False, oom_kills=0
    )  # fmt: skip
    if known.reason == contract.REASON_ENGINE_START_FAILED:
        return EngineFailure(known.reason, f"vLLM could not be profiled: {type(error).__name__}: {error}")
    if known.reason == contract.REASON_OUT_OF_MEMORY:
        return EngineFailure(known.reason, f"{known.message} {BESIDE}")
    return known


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Around whatever calls vLLM."""
    try:
        yield
    except EngineFailure:
        raise
    except Exception as error:
        raise explain(error) from error


def _refuse(message: str) -> NoReturn:
    raise _invalid(f"vLLM refuses a flag behind --: {message.rstrip('.')}. `vllm serve --help=all` lists them.")


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, message)
