"""Quantities as the API server writes them; tests/integration/test_children.py asks a real one about the same table."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenfleet.controller.resources.quantities import MILLI, amount, canonical_quantity

TABLE = [
    ("1", "1"),
    (2, "2"),
    (0, "0"),
    ("0", "0"),
    ("0Gi", "0"),
    ("0.5", "500m"),
    (0.5, "500m"),
    (".5", "500m"),
    ("1.", "1"),
    ("+1", "1"),
    ("100m", "100m"),
    ("1000m", "1"),
    ("1500m", "1500m"),
    ("2000", "2k"),
    ("2000000", "2M"),
    ("1500", "1500"),
    ("1k", "1k"),
    ("1000k", "1M"),
    ("0.5k", "500"),
    ("1G", "1G"),
    ("1024Mi", "1Gi"),
    ("1.5Gi", "1536Mi"),
    ("0.5Gi", "512Mi"),
    ("1Ki", "1Ki"),
    ("1000Ki", "1000Ki"),
    ("0.5Ki", "512"),
    ("0.1Gi", "107374182400m"),
    ("1e3", "1e3"),
    ("1E3", "1e3"),
    ("12e5", "1200e3"),
    ("100e-3", "100e-3"),
    ("1n", "1n"),
    ("0.1n", "1n"),
    ("1u", "1u"),
    ("16Ei", "9223372036854775807"),
    ("1Ei", "1Ei"),
    ("-1", "-1"),
]


@pytest.mark.parametrize(("written", "kept"), [pytest.param(*row, id=repr(row[0])) for row in TABLE])
def test_a_quantity_is_written_as_the_api_server_does(written: object, kept: str) -> None:
    assert canonical_quantity(written) == kept


@pytest.mark.parametrize(
    ("written", "kept"), [("1u", "1m"), ("0.0001", "1m"), ("0.1Gi", "107374182400m"), ("1.0001", "1001m"), ("0", "0")]
)
def test_requests_and_limits_are_kept_to_the_thousandth(written: str, kept: str) -> None:
    assert canonical_quantity(written, finest=MILLI) == kept


@pytest.mark.parametrize("text", ["", "a", "1 Gi", "1GiB", "1K", "Gi", "1e", "--1", None, True, [], "1_000", "٣"], ids=repr)
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        canonical_quantity(text)


@given(number=st.decimals(0, 10**6, places=3), suffix=st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti", "e3"]))
def test_what_was_written_stays_as_it_is(number: object, suffix: str) -> None:
    once = canonical_quantity(f"{number}{suffix}")
    assert canonical_quantity(once) == once


@pytest.mark.parametrize(
    ("written", "units"),
    [("16Gi", 16 * 1024**3), ("1.5Ki", 1536), ("20G", 20 * 10**9), ("500m", Decimal("0.5")), (2, 2), ("1e3", 1000)],
)
def test_a_quantity_comes_to_an_amount(written: object, units: int | Decimal) -> None:
    assert amount(written) == units
