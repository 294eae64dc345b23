"""The short form of the matrix: no stream lost, none cut in silence, whatever is done to the fleet."""

from collections.abc import Iterator

import pytest

from e2e.disruptions import matrix
from e2e.disruptions.disruptions import ALL, Disruption
from e2e.disruptions.fleet import Fleet
from e2e.kubectl import Kubectl


@pytest.fixture(scope="module")
def disturbed(kubectl: Kubectl) -> Iterator[Fleet]:
    with matrix.deployed(kubectl) as fleet:
        yield fleet


@pytest.mark.parametrize("disruption", [pytest.param(each, id=each.name) for each in ALL if each.short])
async def test_no_stream_is_lost_and_none_is_cut_in_silence(disturbed: Fleet, disruption: Disruption) -> None:
    with matrix.reached(disturbed) as url:
        rows = await matrix.under(disruption, disturbed, await matrix.learn(url, streams_each=3))
    assert all(row.streams for row in rows)
    assert not [(row.mode, row.problems) for row in rows if not row.good]
