"""The health check that examples/gitops gives to Argo CD, run by the Lua interpreter that Argo CD has (gopher-lua)."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import go
from tests.integration.command_lines import ROOT
from tokenfleet import contract
from tokenfleet.api.conditions import AS_EXPECTED, NO_MODELS, REASONS, ROUTES_UNRESOLVED

DATA = yaml.safe_load((ROOT / "examples" / "gitops" / "argocd-cm.yaml").read_text())["data"]
KEYS = [f"resource.customizations.health.{contract.GROUP}_{kind}" for kind in (contract.KIND, contract.ROUTER_KIND)]
SCRIPT: str = DATA[KEYS[0]]

TRUE = (AS_EXPECTED, ROUTES_UNRESOLVED, NO_MODELS)
"""Reasons that never stand beside False."""
NOT_DEGRADED = {
    "Creating": "Progressing",
    "FetchingModel": "Progressing",
    "InsufficientGPU": "Progressing",
    "LoadingModel": "Progressing",
    "RouterNotFound": "Progressing",
    "RouterStarting": "Progressing",
    "ScaledToZero": "Suspended",
    "Suspended": "Suspended",
    "Unschedulable": "Progressing",
    "Updating": "Progressing",
    "VolumeNotReady": "Progressing",
}


def lua(value: Any) -> str:
    """A JSON value as a Lua literal."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{json.dumps(key)}] = {lua(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(lua, value)) + "}"
    return "nil" if value is None else json.dumps(value)


def health(tmp_path: Path, *objects: Any) -> list[tuple[str, str]]:
    """(status, message) of each object."""
    program = [f"local function health(obj)\n{SCRIPT}\nend"]
    program += [f"local h = health({lua(each)}) print(h.status .. '\\t' .. h.message)" for each in objects]
    path = tmp_path / "health.lua"
    path.write_text("\n".join(f"do {line} end" if index else line for index, line in enumerate(program)))
    command: list[str | Path] = [go.find()[0], "tool", "glua", path]
    here = Path(__file__).parent / "argo"
    done = subprocess.run(command, cwd=here, env=go.environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [(line.partition("\t")[0], line.partition("\t")[2]) for line in done.stdout.splitlines()]


def deployment(status: str, reason: str, *, generation: int = 2) -> dict[str, Any]:
    ready = {"type": "Ready", "status": status, "reason": reason, "message": "See there."}
    other = {"type": "SpecValid", "status": "True", "reason": AS_EXPECTED, "message": "It is."}
    return {"metadata": {"generation": 2}, "status": {"observedGeneration": generation, "conditions": [other, ready]}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(deployment("True", AS_EXPECTED), ("Healthy", "AsExpected: See there."), id="ready"),
        pytest.param(
            deployment("True", AS_EXPECTED, generation=1),
            ("Progressing", "The controller has not yet seen this spec."),
            id="the status is of an older spec",
        ),
        pytest.param(
            {"metadata": {"generation": 1}},
            ("Progressing", "The controller has not yet seen this spec."),
            id="no status at all",
        ),
        pytest.param(
            {"metadata": {"generation": 1}, "status": {"observedGeneration": 1}},
            ("Progressing", "The controller has not yet reported."),
            id="no conditions",
        ),
        pytest.param(deployment("Unknown", "Anything"), ("Progressing", "Anything: See there."), id="unknown"),
    ],
)
def test_the_health(tmp_path: Path, body: dict[str, Any], expected: tuple[str, str]) -> None:
    assert health(tmp_path, body) == [expected]


def test_both_kinds_are_told_alike() -> None:
    assert list(DATA) == KEYS
    assert DATA[KEYS[0]] == DATA[KEYS[1]]


def test_every_reason_for_not_being_ready(tmp_path: Path) -> None:
    reasons = [reason for reason in REASONS if reason not in TRUE]
    found = health(tmp_path, *(deployment("False", reason) for reason in reasons))
    assert {reason: status for reason, (status, _) in zip(reasons, found, strict=True) if status != "Degraded"} == NOT_DEGRADED
