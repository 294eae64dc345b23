"""Finding the engine's directory in command lines, and fetching a session's traces from it."""

from pathlib import Path

import pytest

from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.profiling.trace_files import directory_in, fetch_traces, find_directory


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            ["--profiler-config", '{"profiler":"torch","torch_profiler_dir":"/tmp/a"}'], "/tmp/a", id="JSON as the next word"
        ),
        pytest.param(['--profiler_config={"torch_profiler_dir":"/tmp/a"}'], "/tmp/a", id="JSON in the same word"),
        pytest.param(["--profiler-config.torch_profiler_dir", "/tmp/a"], "/tmp/a", id="the field by itself"),
        pytest.param(["--profiler-config.torch_profiler_dir=/tmp/a"], "/tmp/a", id="the field in the same word"),
        pytest.param(["--profiler-config", "{"], "", id="JSON that vLLM would refuse"),
        pytest.param(["--profiler-config"], "", id="a flag without a value"),
        pytest.param(["serve", "--port", "8000"], "", id="an engine without a profiler"),
    ],
)
def test_the_directory_is_read_from_a_command_line(words: list[str], expected: str) -> None:
    assert directory_in(words) == expected


def proc(root: Path, *command_lines: list[str]) -> Path:
    for number, words in enumerate(command_lines, start=1):
        (root / str(number)).mkdir()
        (root / str(number) / "cmdline").write_bytes("\0".join(words).encode())
    return root


FLAG = "--profiler-config.torch_profiler_dir"


def test_the_supervisor_and_its_child_name_the_same_directory(tmp_path: Path) -> None:
    assert find_directory(proc(tmp_path, ["serve", FLAG, "/tmp/a"], ["vllm", FLAG, "/tmp/a"], ["sh"])) == Path("/tmp/a")


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        pytest.param([["sh"]], "name none as the directory", id="no engine beside"),
        pytest.param([["x", FLAG, "/a"], ["y", FLAG, "/b"]], "name several: /a, /b as the directory", id="two engines"),
    ],
)
def test_otherwise_it_has_to_be_said(tmp_path: Path, lines: list[list[str]], state: str) -> None:
    with pytest.raises(EngineFailure) as caught:
        find_directory(proc(tmp_path, *lines))
    assert state in caught.value.message
    assert "--trace-dir" in caught.value.message


def test_a_sessions_files_move_and_others_stay(tmp_path: Path) -> None:
    engine, out = tmp_path / "engine", tmp_path / "out"
    engine.mkdir()
    out.mkdir()
    for name in ("s1_rank0.1.pt.trace.json.gz", "s1_rank0.profiler_out.txt", "s2_rank0.2.pt.trace.json.gz"):
        (engine / name).write_text(name)
    assert fetch_traces(engine, prefix="s1", out=out) == [out / "rank0.1.pt.trace.json.gz"]
    assert sorted(file.name for file in out.iterdir()) == ["rank0.1.pt.trace.json.gz", "rank0.profiler_out.txt"]
    assert [file.name for file in engine.iterdir()] == ["s2_rank0.2.pt.trace.json.gz"]


@pytest.mark.parametrize(
    ("exists", "words"),
    [
        pytest.param(False, "cannot be read (No such file or directory)", id="no such directory"),
        pytest.param(True, "has no trace of this session (s1…)", id="nothing in it"),
    ],
)
def test_traces_that_are_not_there_are_somewhere_else(tmp_path: Path, exists: bool, words: str) -> None:
    engine = tmp_path / "engine"
    if exists:
        engine.mkdir()
    with pytest.raises(EngineFailure) as caught:
        fetch_traces(engine, prefix="s1", out=tmp_path)
    assert words in caught.value.message
    assert "--trace-dir" in caught.value.message
