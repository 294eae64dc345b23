"""Fetches that are killed again and again: nothing ever looks whole that is not, and what has arrived is not lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("seed", [pytest.param(seed, id=f"moments {seed}") for seed in (1, 2)])
def test_a_killed_fetch_is_as_good_as_one_that_ended(seed: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.engine.store.killing", str(tmp_path), str(seed)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    seen = json.loads(answer.stdout)
    assert seen["kills"] >= 3, seen
    assert seen["whole"] >= 1, seen
    assert seen["last"] + seen["known"] <= seen["size"], "what the journal knows is not fetched again"
    assert seen["fetched"] < 3 * seen["size"], f"most of what arrives survives: {seen}"
