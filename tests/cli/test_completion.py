"""Completion, the plugin of kubectl, and how little a start loads."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokenfleet.cli.commands import ENTRIES
from tokenfleet.cli.completion import deployment_names
from tokenfleet.cli.main import app

HEAVY = ("aiohttp", "kubernetes", "matplotlib", "msgspec", "numpy", "tokenfleet.api.v1alpha1", "tokenfleet_engine", "yaml")


def tokenfleet(*words: str, program: str = "tokenfleet", **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, without a cluster."""
    code = f"import sys; sys.argv[0] = {program!r}; from tokenfleet.cli.main import app; app()"
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-c", code, *words]
    env = {**kept, "HOME": "/nonexistent", "COLUMNS": "120", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--help",), id="help of all"),
        pytest.param(("status", "--help"), id="the fleet at a glance"),
        pytest.param(("keys", "--help"), id="a group of commands"),
    ],
)
def test_a_start_loads_nothing_that_it_does_not_need(words: tuple[str, ...]) -> None:
    code = (
        "import contextlib, json, sys; from tokenfleet.cli.main import app\n"
        f"with contextlib.suppress(SystemExit): app({list(words)!r})\n"
        f"print('LOADED', json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout.rpartition("LOADED")[2]) == []


def test_the_plugin_of_kubectl_speaks_of_itself_by_kubectl_s_name() -> None:
    assert "Usage: kubectl llm [OPTIONS] COMMAND" in tokenfleet("--help", program="/usr/bin/kubectl-llm").stdout
    assert "Usage: kubectl llm status" in tokenfleet("status", "--help", program="/usr/bin/kubectl-llm").stdout
    assert "Usage: tokenfleet [OPTIONS]" in tokenfleet("--help").stdout


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        found = tokenfleet(COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1), _TOKENFLEET_COMPLETE="complete_bash")
        return found.stdout.split()

    assert completed("tokenfleet dia") == ["diagnose"]
    assert completed("tokenfleet status --wa") == ["--watch"]
    assert completed("tokenfleet rollout pro") == ["promote"]


def test_kubectl_gets_the_words_it_asks_for() -> None:
    code = "import sys; sys.argv[0] = 'kubectl_complete-llm'; from tokenfleet.cli.completion import kubectl_complete as k; k()"
    done = subprocess.run([sys.executable, "-c", code, "lo"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["logs", ":4"]
    assert done.returncode == 0


def test_without_a_cluster_no_name_is_offered_and_nothing_is_said(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert deployment_names({"kubeconfig": str(tmp_path / "absent")}, "") == []
    assert capfd.readouterr() == ("", "")


def test_a_cluster_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "http://192.0.2.1"}}  # an address that nobody has
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    body = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster], "contexts": [context]}
    file.write_text(json.dumps({**body, "users": [{"name": "u", "user": {}}]}))
    began = time.monotonic()
    assert deployment_names({"kubeconfig": str(file)}, "", seconds=0.2) == []
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in ENTRIES])
def test_every_command_of_the_table_is_there_and_says_what_it_is_for(name: str) -> None:
    entry = ENTRIES[name]
    command = entry.load()
    assert command.name == name
    assert command.help
    assert entry.line.endswith(".")
    assert entry.sketch().short_help == entry.line


def test_the_app_has_the_commands_of_the_table() -> None:
    done = tokenfleet("--help").stdout
    assert [name for name in ENTRIES if f" {name} " not in done] == []
    assert app.info.no_args_is_help
