"""Intervals of bytes, against a set of numbers that does the same slowly."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tokenfleet_engine.store.ranges import Ranges

SIZE = 60
EXTENTS = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)))


@given(extents=EXTENTS, at_most=st.integers(1, SIZE))
def test_ranges_are_a_set_of_bytes(extents: list[tuple[int, int]], at_most: int) -> None:
    ranges, there = Ranges(), set[int]()
    for start, end in extents:
        ranges.add(start, end)
        there.update(range(start, end))
    assert ranges.total() == len(there)
    assert {byte for start, end in ranges for byte in range(start, end)} == there
    edges = [edge for extent in ranges for edge in extent]
    assert all(one < next_ for one, next_ in itertools.pairwise(edges)), "they neither touch nor overlap"
    missing = ranges.missing(SIZE, at_most=at_most)
    assert [byte for start, end in missing for byte in range(start, end)] == [b for b in range(SIZE) if b not in there]
    assert all(0 < end - start <= at_most for start, end in missing)
