"""Each reason not to start, as its one sentence."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import checks, network, paths
from e2e.cluster.checks import GIGABYTE, Machine
from e2e.cluster.errors import ClusterError

GOOD = Machine(
    user=0,
    system="Linux",
    processor="x86_64",
    memory=16 * GIGABYTE,
    free_disk=100 * GIGABYTE,
    file_system="ext4",
    cache=Path("/root/.cache/tokenfleet"),
    tools_built=False,
)


def test_a_good_machine_is_taken() -> None:
    checks.refuse(GOOD)


def test_less_disk_will_do_once_the_tools_are_built() -> None:
    checks.refuse(dataclasses.replace(GOOD, free_disk=5 * GIGABYTE, tools_built=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"system": "Darwin"}, "needs Linux, and this is Darwin: set KUBECONFIG", id="not Linux"),
        pytest.param({"processor": "riscv64"}, "not on riscv64: set KUBECONFIG", id="an unknown processor"),
        pytest.param({"user": 1000}, "only root may: run it with sudo", id="not root"),
        pytest.param({"memory": GIGABYTE}, "has 1.0 GB of memory, and the cluster needs 3", id="little memory"),
        pytest.param({"free_disk": 5 * GIGABYTE}, "5.0 GB free, and the cluster needs 10: free some", id="little disk"),
        pytest.param(
            {"free_disk": GIGABYTE, "tools_built": True}, "1.0 GB free, and the cluster needs 4", id="too little to run"
        ),
        pytest.param({"cache": Path("/" + "x" * 80)}, "too long for the sockets .* TOKENFLEET_CACHE", id="a long path"),
        pytest.param({"cache": Path("/run/cache")}, "cannot be in /run/cache, which the cluster covers", id="a covered place"),
        pytest.param({"file_system": "overlay"}, "is on overlay, .* set TOKENFLEET_CACHE", id="inside of a container"),
    ],
)
def test_a_machine_that_will_not_do(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        checks.refuse(dataclasses.replace(GOOD, **change))


def test_this_machine_can_be_looked_at() -> None:
    assert checks.look().system == "Linux"


@pytest.mark.parametrize("owner", [pytest.param(None, id="no such link"), pytest.param("ours", id="our own")])
def test_a_link_that_may_be_taken(owner: str | None) -> None:
    checks._link(network.mark() if owner else None)


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        pytest.param("", f"{paths.LINK_NAME} is there already and is not ours", id="somebody's"),
        pytest.param(
            "tokenfleet cluster in /other/cluster", "TOKENFLEET_CACHE=/other python -m e2e.cluster down", id="another cluster's"
        ),
    ],
)
def test_a_link_that_somebody_else_has(owner: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        checks._link(owner)
