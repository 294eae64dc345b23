"""The accelerator classes: the data that ships, and the page that tells people of it."""

from pathlib import Path

import pytest

from tokenfleet.api import conditions
from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.accelerators import accelerators, find_accelerator

DOCS = Path(__file__).parent.parent.parent / "docs" / "accelerators.md"


def test_the_page_has_a_row_for_every_class_and_no_other() -> None:
    rows = [
        f"| `{each.name}` | {each.summary} | {', '.join(f'`{product}`' for product in each.products) or '—'} |"
        for each in accelerators().values()
    ]
    written = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert written == rows, "write these rows into docs/accelerators.md:\n" + "\n".join(rows)


@pytest.mark.parametrize("name", accelerators())
def test_every_class_may_be_written_in_a_spec(name: str) -> None:
    assert parse_spec("x", {"model": {"source": "pvc://m"}, "accelerator": name}).accelerator == name


@pytest.mark.parametrize("name", accelerators())
def test_a_class_is_whole(name: str) -> None:
    found = find_accelerator(name)
    assert found.name == name
    assert found.summary.endswith(".")
    assert found.engine in ("vllm", "simulated")
    assert not found.products or found.resource == "nvidia.com/gpu"


def test_no_product_belongs_to_two_classes() -> None:
    products = [product for each in accelerators().values() for product in each.products]
    assert len(products) == len(set(products))


def test_a_product_is_a_label_value() -> None:
    for each in accelerators().values():
        for product in each.products:
            assert len(product) <= 63
            assert product.replace("-", "").isalnum()


def test_the_cpu_asks_for_no_device_and_any_gpu_for_no_product() -> None:
    assert (find_accelerator("cpu").resource, find_accelerator("cpu").products) == (None, ())
    assert (find_accelerator("simulated").resource, find_accelerator("simulated").products) == (None, ())
    assert (find_accelerator("nvidia").resource, find_accelerator("nvidia").products) == ("nvidia.com/gpu", ())


def test_an_unknown_class_is_refused_with_the_next_step() -> None:
    with pytest.raises(InvalidSpec) as refused:
        find_accelerator("tpu")
    assert refused.value.reason == conditions.UNKNOWN_ACCELERATOR
    assert "there are cpu, simulated, nvidia, nvidia-t4-16gb" in refused.value.message
    assert "nodeSelector" in refused.value.message
