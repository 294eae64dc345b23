"""A day with the program that users have: look at the fleet, talk to a model, read logs, ask what is wrong."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import paths
from e2e.deployed import Deployed
from e2e.kubectl import Kubectl, wait_for

MANIFEST = Path(__file__).with_name("manifest.yaml")
_SECONDS = 60


class Commands:
    """`tokenfleet`, in kubectl's namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from tokenfleet.cli.main import app; app()", *words, "-n", self._namespace]
        environment = {**os.environ, "KUBECONFIG": str(paths.kubeconfig())}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment, **{**pipes, **options})

    def __call__(self, *words: str, said: str = "", code: int = 0) -> str:
        with self.start(*words, stdin=subprocess.PIPE) as process:
            out, errors = process.communicate(said, timeout=_SECONDS)
        assert process.returncode == code, (words, out, errors)
        return out

    def json(self, *words: str, **options: Any) -> Any:
        return json.loads(self(*words, "--json", **options))


@pytest.fixture
def commands(kubectl: Kubectl, deploy: Callable[[Path, str], Deployed]) -> Commands:
    deploy(MANIFEST, "talker").wait_ready(2, timeout=90)
    deploy(MANIFEST, "broken")
    return Commands(kubectl.namespace)


def test_a_day_with_the_fleet(kubectl: Kubectl, commands: Commands) -> None:
    fleet = {row["name"]: row for row in commands.json("status")}
    assert (fleet["talker"]["readyReplicas"], fleet["talker"]["reason"]) == (2, "AsExpected")
    wait_for("all routers to know both engines", lambda: engines(commands) == [("ready", 0), ("ready", 0)], timeout=_SECONDS)
    talk(commands)
    read_logs(kubectl, commands)
    Deployed(kubectl, "talker").wait_ready(3, timeout=90)
    assert commands("diagnose", "talker").splitlines()[-1] == "Nothing is wrong."
    find_the_fault(kubectl, commands)


def engines(commands: Commands) -> list[tuple[str, int | None]]:
    """Of status' page: their state, and what the routers say that they have in flight."""
    pods = commands.json("status", "talker")["pods"]
    return [(pod["state"], pod["inFlight"]) for pod in pods if pod["role"] == "engine"]


def talk(commands: Commands) -> None:
    """By a forward, in turns."""
    answers = commands("chat", "talker", "--json", "--max-tokens", "5", said="What is a fleet?\nAnd a router?\n").splitlines()
    assert [json.loads(line)["tokens"] for line in answers] == [5, 5]


def read_logs(kubectl: Kubectl, commands: Commands) -> None:
    """Of all pods; and of one that comes while they are followed."""
    told = commands("logs", "talker", "--tail=20").splitlines()
    pods = {pod["metadata"]["name"] for pod in kubectl.items("pods", "tokenfleet.dev/deployment=talker")}
    assert {line.split(" ")[0] for line in told} == pods
    with following(commands, "logs", "talker", "--role=engine", "-f", "--json") as pods_heard:
        wait_for("what is there", lambda: len(pods_heard) == 2, timeout=_SECONDS)
        kubectl("scale", "llmd", "talker", "--replicas=3")
        wait_for("the new pod's log", lambda: len(pods_heard) == 3, timeout=_SECONDS)


@contextmanager
def following(commands: Commands, *words: str) -> Iterator[set[str]]:
    """The pods that have said something, while a command goes on."""
    heard: set[str] = set()
    with commands.start(*words) as process:

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                heard.add(json.loads(line)["pod"])

        threading.Thread(target=read, daemon=True).start()
        try:
            yield heard
        finally:
            process.terminate()


def find_the_fault(kubectl: Kubectl, commands: Commands) -> None:
    """Of the one that crashes, and of one that is not there."""
    Deployed(kubectl, "broken").wait_reason("EngineReady", "EngineCrashLooping", timeout=120)
    found = commands.json("diagnose", "broken", code=1)
    assert (found["cause"]["link"], found["healthy"]) == ("Engine", False)
    assert "kubectl -n" in found["cause"]["fix"]
    assert any("EngineCrashed" in line for line in found["cause"]["details"]), "the engine's last words"
    told = errors_of(commands, "diagnose", "absent")
    assert all(name in told.partition("There are: ")[2] for name in ("broken", "talker")), told


def errors_of(commands: Commands, *words: str) -> str:
    with commands.start(*words) as process:
        _, errors = process.communicate(timeout=_SECONDS)
    assert process.returncode == 1
    return errors
