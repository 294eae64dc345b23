"""`tokenfleet accelerators`, and the option by which commands learn of own classes and prices."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tokenfleet.cli.errors import Unusable
from tokenfleet.cli.main import app
from tokenfleet.planning.accelerators import accelerators, extend

OWN = """
[our-mi300x]
summary = "AMD MI300X, 192 GB."
resource = "amd.com/gpu"
memory_mib = 196592
bandwidth_gb = 5300
teraflops = { bf16 = 1307, fp8 = 2614 }
price = { on_demand = 1.99, currency = "EUR", source = "our contract" }

[nvidia-h100-80gb]
price = { on_demand = 2.49 }
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    extend("", origin="the test's end")


def run(*arguments: str, **environment: str) -> str:
    result = CliRunner().invoke(app, ["accelerators", *arguments], env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["accelerators", *arguments])
    assert isinstance(result.exception, Unusable)
    return str(result.exception)


def test_every_class_has_a_line() -> None:
    lines = run().splitlines()
    assert lines[0].split()[:3] == ["CLASS", "GIB", "GB/S"]
    assert [line.split()[0] for line in lines[1:]] == list(accelerators())
    (h100,) = [line.split() for line in lines if line.startswith("nvidia-h100-80gb")]
    assert h100[1:9] == ["79.6", "3,350", "989", "1,979", "450", "8", "6.88", "2.46"]


def test_programs_get_the_figures_whole() -> None:
    found = {each["name"]: each for each in json.loads(run("--json"))}
    t4 = found["nvidia-t4-16gb"]
    assert (t4["memoryBytes"], t4["bandwidth"], t4["flops"]["fp16"]) == (15360 << 20, 320e9, 65e12)
    assert t4["price"]["source"].startswith("AWS g4dn")
    assert (found["cpu"]["resource"], found["cpu"]["price"]) == (None, None)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_own_classes_come_from_a_file(tmp_path: Path, way: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(OWN)
    shown = run("--accelerators", str(file)) if way == "option" else run(TOKENFLEET_ACCELERATORS_FILE=str(file))
    (ours,) = [line.split() for line in shown.splitlines() if line.startswith("our-mi300x")]
    assert ours[1:10] == ["192.0", "5,300", "1,307", "2,614", "—", "8", "1.99", "EUR", "—"]
    assert [line.split()[7:9] for line in shown.splitlines() if line.startswith("nvidia-h100-80gb")] == [["2.49", "—"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[x\n", "own.toml is no TOML", id="not TOML"),
        pytest.param("{", "own.toml is no JSON", id="not JSON"),
        pytest.param("[x]\n", "[x] summary", id="a new class without what it needs"),
        pytest.param("[nvidia-t4-16gb]\nmemory_gib = 16\n", "did you mean memory_mib?", id="a field that is not there"),
    ],
)
def test_a_mistake_in_it_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    assert message in refused("--accelerators", str(file))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "No such file" in refused("--accelerators", str(tmp_path / "none.toml"))
