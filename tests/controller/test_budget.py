"""What the namespace's quotas have GPUs for."""

import pytest

from tokenfleet.controller.autoscaling.budget import Need, room
from tokenfleet.controller.observed import Json

GPU = "requests.nvidia.com/gpu"


def quota(hard: str | None = None, used: str | None = None, *, scopes: tuple[str, ...] = (), counted: bool = True) -> Json:
    amounts = {} if hard is None else {GPU: hard}
    status = {"hard": amounts, "used": {} if used is None else {GPU: used}} if counted else {}
    return {"spec": {"hard": amounts, "scopes": list(scopes)}, "status": status}


@pytest.mark.parametrize(
    ("quotas", "count", "left"),
    [
        pytest.param([], 1, None, id="no quota"),
        pytest.param([quota()], 1, None, id="a quota of other things"),
        pytest.param([quota("8", "3")], 1, 5, id="what is not used"),
        pytest.param([quota("8", "3")], 4, 1, id="whole replicas alone"),
        pytest.param([quota("8", "3"), quota("4", "3")], 1, 1, id="the tightest of several"),
        pytest.param([quota("1k", "900")], 100, 1, id="in any notation"),
        pytest.param([quota("4", "6")], 1, 0, id="a quota that was lowered"),
        pytest.param([quota("4", counted=False)], 1, 4, id="one that was not counted yet"),
        pytest.param([quota("0", "0", scopes=("BestEffort",))], 1, None, id="one for pods that ask for nothing"),
        pytest.param([quota("0", "0", scopes=("NotTerminating",))], 1, 0, id="one for pods that stay"),
    ],
)
def test_the_room_that_is_left(quotas: list[Json], count: int, left: int | None) -> None:
    assert room(quotas, Need(resource="nvidia.com/gpu", count=count)) == left
