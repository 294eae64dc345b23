"""`tokenfleet keys` against a real API server."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner, Result

from e2e.cluster.control_plane import ControlPlane
from tests.integration.raw_api import connected
from tokenfleet.cli.errors import CliError
from tokenfleet.cli.main import app
from tokenfleet.router.callers.keys import Keyring

_NAMESPACE = "keys"
_SECRETS = f"/api/v1/namespaces/{_NAMESPACE}/secrets"


@pytest.fixture(scope="module")
def secrets(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    with connected(control_plane) as client:
        client.post("/api/v1/namespaces", json={"metadata": {"name": _NAMESPACE}})
        yield client


def tokenfleet(*words: str, kubeconfig: Path) -> Result:
    return CliRunner().invoke(app, ["keys", *words, "--kubeconfig", str(kubeconfig)])


def in_namespace(*words: str, secret: str, kubeconfig: Path) -> Result:
    done = tokenfleet(*words, "-n", _NAMESPACE, "-s", secret, kubeconfig=kubeconfig)
    assert done.exit_code == 0, done.exception
    return done


def stored(secrets: httpx.Client, secret: str) -> dict[str, bytes]:
    found = secrets.get(f"{_SECRETS}/{secret}").raise_for_status().json()
    return {name: b64decode(value) for name, value in (found.get("data") or {}).items()}


def test_a_key_s_whole_life(secrets: httpx.Client, kubeconfig: Path) -> None:
    first = in_namespace("create", "alice", "--models", "llama", secret="team", kubeconfig=kubeconfig).stdout.strip()
    second = in_namespace("create", "alice", "--rotate", secret="team", kubeconfig=kubeconfig).stdout.strip()
    ring = Keyring()
    ring.load(stored(secrets, "team"))
    assert [(key.name, key.models) for key in (ring.find(token.encode(), 0.0) for token in (first, second))] == [
        ("alice", ("llama",)),
        ("alice", ("llama",)),
    ]
    rows = json.loads(in_namespace("list", "--json", secret="team", kubeconfig=kubeconfig).stdout)
    assert [(row["entry"], row["lastFour"]) for row in rows] == [("alice", first[-4:]), ("alice-2", second[-4:])]
    in_namespace("revoke", "alice", secret="team", kubeconfig=kubeconfig)
    left = stored(secrets, "team")
    assert list(left) == ["alice-2"]
    assert json.loads(left["alice-2"])["sha256"] == sha256(second.encode()).hexdigest()


def test_entries_and_labels_of_others_stay(secrets: httpx.Client, kubeconfig: Path) -> None:
    body = {"metadata": {"name": "shared", "labels": {"team": "a"}}, "stringData": {"other": "not ours"}}
    secrets.post(_SECRETS, json=body).raise_for_status()
    in_namespace("create", "alice", secret="shared", kubeconfig=kubeconfig)
    in_namespace("revoke", "alice", secret="shared", kubeconfig=kubeconfig)
    found = secrets.get(f"{_SECRETS}/shared").json()
    assert found["metadata"]["labels"] == {"team": "a"}
    assert stored(secrets, "shared") == {"other": b"not ours"}


def test_what_is_printed_for_a_repository_can_be_applied(secrets: httpx.Client, kubeconfig: Path) -> None:
    manifest = in_namespace("create", "alice", "--dry-run", secret="from-git", kubeconfig=kubeconfig).stdout
    secrets.patch(
        f"{_SECRETS}/from-git?fieldManager=test",
        content=manifest,
        headers={"Content-Type": "application/apply-patch+yaml"},
    ).raise_for_status()
    assert list(stored(secrets, "from-git")) == ["alice"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param(("revoke", "a", "-n", _NAMESPACE, "-s", "none"), "There are: none.", id="no Secret, to be revoked from"),
        pytest.param(("create", "a", "-n", "nowhere"), "There is no namespace nowhere", id="no namespace"),
        pytest.param(
            ("create", "a", "-n", _NAMESPACE, "-s", "A_B"), "refused to create the Secret keys/A_B: ", id="a bad name"
        ),
    ],
)
def test_what_goes_wrong_is_said(secrets: httpx.Client, kubeconfig: Path, words: tuple[str, ...], sentence: str) -> None:
    error = tokenfleet(*words, kubeconfig=kubeconfig).exception
    assert isinstance(error, CliError)
    assert sentence in str(error)


def test_a_process_of_its_own_takes_kubeconfig_from_the_environment_and_ends_in_one_sentence(kubeconfig: Path) -> None:
    command = [sys.executable, "-c", "from tokenfleet.cli.main import app; app()", "keys", "list", "--context", "absent"]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "No way to reach a cluster" in done.stderr
    assert "absent" in done.stderr


@pytest.mark.parametrize(
    ("server", "user", "sentence"),
    [
        pytest.param("https://127.0.0.1:1", {}, "The cluster at https://127.0.0.1:1 does not answer", id="nobody there"),
        pytest.param(None, {"token": "unknown"}, "The cluster does not know you", id="a stranger"),
        pytest.param(None, {}, "You may not get the Secret default/tokenfleet-keys", id="no rights"),
    ],
)
def test_a_cluster_that_does_not_answer_or_refuses(
    kubeconfig: Path, tmp_path: Path, server: str | None, user: dict[str, str], sentence: str
) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = server or config["clusters"][0]["cluster"]["server"]
    config["users"][0]["user"] = user
    other = tmp_path / "kubeconfig"
    other.write_text(yaml.safe_dump(config))
    error = tokenfleet("list", kubeconfig=other).exception
    assert isinstance(error, CliError)
    assert sentence in str(error)
