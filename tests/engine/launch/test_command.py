"""The command line that vLLM gets."""

import sys
from pathlib import Path

import pytest

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch import command
from tokenfleet_engine.launch.adapters import Adapter, Adapters
from tokenfleet_engine.launch.cgroup import cpu_limit, memory_limit, oom_kills
from tokenfleet_engine.launch.command import Build
from tokenfleet_engine.launch.features import Features
from tokenfleet_engine.launch.model_files import Model
from tokenfleet_engine.launch.speculation import Request, Speculation
from tokenfleet_engine.launch.user_flags import read_flags

GIB = 1 << 30
GPU = Build(version="0.32.0", cpu=False)
CPU = Build(version="0.32.0", cpu=True)
MODEL = Model(
    path=Path("/models/m"),
    architecture="LlamaForCausalLM",
    dtype="bfloat16",
    context_tokens=2048,
    weight_bytes=GIB,
    weight_files=1,
)


def _build(
    *flags: str, build: Build = GPU, environment: dict[str, str] | None = None, features: Features | None = None
) -> command.ServeCommand:
    return command.build_command(
        MODEL, served_name="m", host="0.0.0.0", port=8000, user=read_flags(flags, known=None), build=build,
        environment=environment or {}, features=features or Features(), admission={},
    )  # fmt: skip


def test_what_tokenfleet_relies_on_is_always_there() -> None:
    argv = _build().argv
    assert argv[:3] == (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
    pairs = dict(zip(argv[3::2], argv[4::2], strict=False))
    assert pairs["--model"] == "/models/m"
    assert pairs["--served-model-name"] == "m"
    assert (pairs["--host"], pairs["--port"]) == ("0.0.0.0", "8000")
    assert pairs["--middleware"] == "tokenfleet_engine.serving.admission.Admission"
    assert pairs["--shutdown-timeout"] == str(contract.ENGINE_SHUTDOWN_SECONDS)


def test_the_users_flags_come_last_so_that_they_win() -> None:
    assert _build("--max-model-len", "512").argv[-2:] == ("--max-model-len", "512")


def test_a_gpu_engine_gets_nothing_that_is_for_cpus() -> None:
    built = _build(build=GPU)
    assert "--enforce-eager" not in built.argv
    assert built.environment == {}


def test_a_cpu_engine_without_a_compiler_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "--enforce-eager" in _build(build=CPU).argv
    assert "--enforce-eager" not in _build("--no-enforce-eager", build=CPU).argv


def test_a_cpu_engine_that_may_not_compile_runs_eagerly_though_there_is_a_compiler() -> None:
    assert "--enforce-eager" in _build(build=CPU, environment={"TORCHDYNAMO_DISABLE": "1"}).argv


def test_a_cpu_engine_uses_the_cpus_that_it_may_use_unless_told_otherwise() -> None:
    assert _build(build=CPU).environment == {"OMP_NUM_THREADS": str(cpu_limit())}
    assert _build(build=CPU, environment={"OMP_NUM_THREADS": "7"}).environment == {}


@pytest.mark.parametrize(
    ("limit", "cache"),
    [
        pytest.param(None, GIB, id="no limit: a modest cache, since the node is shared"),
        pytest.param(8 * GIB, 8 * GIB - command.CPU_PROCESSES_BYTES - GIB, id="what processes and weights leave of the limit"),
        pytest.param(2 * GIB, command.CPU_CACHE_LEAST_BYTES, id="too little: the least that can work"),
    ],
)
def test_the_kv_cache_of_a_cpu_engine_fits_its_pod(limit: int | None, cache: int) -> None:
    assert command.cpu_cache_bytes(limit, weight_bytes=GIB) == cache


def test_the_user_may_say_the_size_of_the_kv_cache() -> None:
    assert "--kv-cache-memory-bytes" in _build(build=CPU).argv
    assert _build("--kv-cache-memory-bytes=5", build=CPU).argv.count("--kv-cache-memory-bytes") == 0
    assert "--kv-cache-memory-bytes" not in _build(build=CPU, environment={"VLLM_CPU_KVCACHE_SPACE": "2"}).argv


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        pytest.param("memory.max", "4294967296\n", 4 * GIB, id="version 2"),
        pytest.param("memory.max", "max\n", None, id="no limit in version 2"),
        pytest.param("memory/memory.limit_in_bytes", "4294967296\n", 4 * GIB, id="version 1"),
        pytest.param("memory/memory.limit_in_bytes", "9223372036854771712\n", None, id="no limit in version 1"),
        pytest.param("other", "", None, id="no control group"),
    ],
)
def test_the_memory_limit(tmp_path: Path, name: str, text: str, limit: int | None) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == limit


FEATURES = Features(
    speculation=Speculation(Request(method="ngram", num_tokens=3)),
    adapters=Adapters((Adapter(name="a", path=Path("/claims/a"), rank=8, weight_bytes=1000),)),
    sleep=True,
)


def test_features_become_vllms_flags_before_the_users_own() -> None:
    argv = _build("--max-loras", "3", features=FEATURES).argv
    first, last = argv.index("--speculative-config"), argv.index("--enable-sleep-mode")
    assert argv[first:last] == (
        "--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}', "--enable-lora", "--max-lora-rank", "8",
        "--max-loras", "3", "--max-cpu-loras", "3", "--lora-modules", '{"name": "a", "path": "/claims/a"}',
    )  # fmt: skip
    assert argv[-2:] == ("--max-loras", "3")


def test_the_plan_names_the_features() -> None:
    built = _build(features=FEATURES)
    plan = command.describe(
        built, model=MODEL, build=GPU, user=read_flags([], known=None), features=FEATURES, drain_seconds=60, port=8000
    )
    assert [line.split(maxsplit=1) for line in plan.splitlines()[5:8]] == [
        ["speculation", "3 tokens a step (ngram) from earlier text of the same sequence"],
        ["adapters", "a (rank 8)"],
        ["sleep", "on request"],
    ]


def test_drafts_and_adapters_take_their_room_from_the_kv_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "memory_limit", lambda: 8 * GIB)
    without, with_features = _build(build=CPU).cache_bytes, _build(build=CPU, features=FEATURES).cache_bytes
    assert without is not None
    assert with_features == without - 1000


def test_the_bounds_of_admission_go_to_vllms_process() -> None:
    built = command.build_command(
        MODEL, served_name="m", host="0.0.0.0", port=8000, user=read_flags([], known=None), build=GPU, environment={},
        features=Features(), admission={contract.ENV_ENGINE_MAX_IN_FLIGHT: "4"},
    )  # fmt: skip
    assert built.environment == {contract.ENV_ENGINE_MAX_IN_FLIGHT: "4"}


def test_shared_memory_that_is_too_small_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SHARED_MEMORY_BYTES", 1 << 62)
    with pytest.raises(EngineFailure, match="memory-backed emptyDir"):
        command.check_shared_memory(tmp_path)


def test_shared_memory_that_is_large_enough_or_not_there_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SHARED_MEMORY_BYTES", 1)
    command.check_shared_memory(tmp_path)
    command.check_shared_memory(tmp_path / "none")


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        pytest.param({"cpu.max": "150000 100000\n"}, 2, id="one and a half is rounded up"),
        pytest.param({"cpu.max": "10000 100000\n"}, 1, id="never less than one"),
        pytest.param({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1, id="version 1"),
        pytest.param({"cpu.max": "max 100000\n"}, None, id="no limit"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, id="no limit in version 1"),
        pytest.param({}, None, id="no control group"),
    ],
)
def test_the_cpu_limit(tmp_path: Path, files: dict[str, str], cpus: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    available = cpu_limit(tmp_path / "none")
    assert cpu_limit(tmp_path) == (available if cpus is None else min(cpus, available))


@pytest.mark.parametrize(
    ("name", "text", "kills"),
    [
        pytest.param("memory.events", "low 0\nmax 12\noom 3\noom_kill 2\n", 2, id="version 2"),
        pytest.param("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1, id="version 1"),
        pytest.param("other", "oom_kill 9\n", 0, id="no memory control"),
    ],
)
def test_the_kernels_kills_are_counted(tmp_path: Path, name: str, text: str, kills: int) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert oom_kills(tmp_path) == kills
