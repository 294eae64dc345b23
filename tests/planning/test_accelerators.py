"""The accelerator classes: the data that ships, what a cluster adds, and the page that tells people of both."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from tokenfleet.api import conditions
from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.accelerators import (
    Accelerator,
    InvalidAccelerators,
    Precision,
    accelerators,
    extend,
    find_accelerator,
    parse_accelerators,
)

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs" / "accelerators.md"
SCHEMA = json.loads((ROOT / "charts" / "tokenfleet" / "values.schema.json").read_text())


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    extend("", origin="the test's end")


def rows_of(heading: str) -> list[str]:
    """Of the table below a heading of the page."""
    section = DOCS.read_text().partition(f"{heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_the_page_has_a_row_for_every_class_and_no_other() -> None:
    rows = [
        f"| `{each.name}` | {each.summary} | {', '.join(f'`{product}`' for product in each.products) or '—'} |"
        for each in accelerators().values()
    ]
    assert rows_of("# Accelerators") == rows, "write these rows into docs/accelerators.md:\n" + "\n".join(rows)


def figures(each: Accelerator) -> str:
    assert each.memory and each.bandwidth and each.interconnect
    flops = [each.flops.get(name) for name in ("bf16", "fp8", "fp4")]
    flops[0] = flops[0] or each.flops["fp16"]
    cells = [f"{each.memory >> 20:,}", f"{each.bandwidth / 1e9:,.0f}", *(f"{one / 1e12:,.0f}" if one else "—" for one in flops)]
    return f"| `{each.name}` | {' | '.join(cells)} | {each.interconnect / 1e9:.0f} | {each.per_node} |"


def test_the_page_has_the_figures_of_every_class_that_can_be_planned_with() -> None:
    rows = [figures(each) for each in accelerators().values() if each.plannable]
    assert rows_of("## Figures") == rows, "write these rows into docs/accelerators.md:\n" + "\n".join(rows)


def test_the_page_has_every_price_with_its_source() -> None:
    rows = [
        f"| `{each.name}` | {each.price.on_demand:g} | {each.price.spot or '—'} | {each.price.source} |"
        for each in accelerators().values()
        if each.price is not None
    ]
    assert rows_of("## Prices") == rows, "write these rows into docs/accelerators.md:\n" + "\n".join(rows)


def documents(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", DOCS.read_text(), flags=re.S)


def test_the_examples_of_the_page_mean_what_it_says() -> None:
    (toml,) = documents("toml")
    extend(toml, origin="docs/accelerators.md")
    pcie = find_accelerator("nvidia-h100-80gb")
    assert (pcie.bandwidth, pcie.flops["bf16"], pcie.interconnect) == (2039e9, 756e12, 64e9)
    assert (pcie.memory, pcie.products) == (81559 << 20, ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe")), "all else stays"


def chart_values() -> Any:
    (values,) = [document for document in map(yaml.safe_load, documents("yaml")) if "accelerators" in document]
    return values["accelerators"]


def test_the_example_for_the_chart_passes_its_schema_and_is_read() -> None:
    values = chart_values()
    jsonschema.validate(values, SCHEMA["properties"]["accelerators"])
    extend(json.dumps(values), origin="the ConfigMap")
    ada = find_accelerator("nvidia-rtx-6000-ada-48gb")
    assert ada.plannable and ada.node_labels == {"example.com/pool": "workstations"}
    price = find_accelerator("nvidia-h100-80gb").price
    assert price is not None and (price.on_demand, price.spot, price.currency) == (2.49, None, "EUR")


def test_the_chart_takes_what_the_file_may_have_and_nothing_else() -> None:
    whole = {
        "summary": "All of it.", "engine": "vllm", "resource": "a.b/c", "products": ["x"], "node_labels": {"a": "b"},
        "memory_mib": 1, "bandwidth_gb": 1.5, "teraflops": {"bf16": 1}, "interconnect_gb": 1, "per_node": 2,
        "price": {"on_demand": 1, "spot": 0.5, "currency": "EUR", "source": "x"},
    }  # fmt: skip
    fields = SCHEMA["properties"]["accelerators"]["additionalProperties"]["properties"]
    assert fields.keys() == whole.keys()
    assert fields["price"]["properties"].keys() == whole["price"].keys()  # type: ignore[attr-defined]
    jsonschema.validate({"own": whole}, SCHEMA["properties"]["accelerators"])
    assert parse_accelerators({"own": whole}, origin="x")["own"].price is not None


# --- what a cluster adds


def test_a_class_is_changed_field_by_field_and_another_one_added() -> None:
    extend('[nvidia-t4-16gb]\nper_node = 1\n[own]\nsummary = "Ours."\nresource = "nvidia.com/gpu"', origin="x")
    t4 = find_accelerator("nvidia-t4-16gb")
    assert (t4.per_node, t4.memory, find_accelerator("own").resource) == (1, 15360 << 20, "nvidia.com/gpu")
    assert list(accelerators())[-1] == "own"
    extend('{"own": {"summary": "As JSON."}}', origin="x")
    assert (find_accelerator("nvidia-t4-16gb").per_node, find_accelerator("own").summary) == (8, "As JSON.")
    extend("", origin="x")
    assert "own" not in accelerators()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[", "x is no TOML", id="no TOML"),
        pytest.param("{]", "x is no JSON", id="no JSON"),
        pytest.param("[Own]\nsummary = 'x'", "[Own]: a class's name", id="a name that no spec may have"),
        pytest.param("[own]", "[own] summary: Field required", id="nothing of a new class"),
        pytest.param("own = 1", "[own]", id="no class at all"),
        pytest.param("[nvidia-t4-16gb]\nmemory = 1", "has no field memory; did you mean memory_mib?", id="another field"),
        pytest.param("[nvidia-t4-16gb]\nmemory_mib = 0", "memory_mib: Input should be greater than 0", id="no memory"),
        pytest.param("[nvidia-t4-16gb]\nmemory_mib = '16'", "memory_mib: Input should be a valid integer", id="a word"),
        pytest.param("[nvidia-t4-16gb]\nteraflops = { bf16 = -1 }", "teraflops must be above 0", id="negative FLOPs"),
        pytest.param("[nvidia-t4-16gb]\nteraflops = { tf32 = 1 }", "teraflops.tf32", id="another precision"),
        pytest.param("[nvidia-t4-16gb]\nprice = { spot = 1 }", "price.on_demand: Field required", id="half a price"),
        pytest.param("[nvidia-t4-16gb]\nprice = { on_demand = 1, currency = '$' }", "price.currency", id="no currency"),
    ],
)
def test_a_mistake_is_told_with_class_and_field_and_changes_nothing(text: str, message: str) -> None:
    extend("[nvidia-t4-16gb]\nper_node = 3", origin="before")
    with pytest.raises(InvalidAccelerators, match=re.escape(message)):
        extend(text, origin="x")
    assert find_accelerator("nvidia-t4-16gb").per_node == 3


def test_two_mistakes_are_both_told() -> None:
    with pytest.raises(InvalidAccelerators, match=r"\[a\] summary.*\[b\] summary"):
        extend("[a]\n[b]", origin="x")


# --- the data


@pytest.mark.parametrize("each", [each for each in accelerators().values() if each.plannable], ids=lambda each: each.name)
def test_figures_are_of_the_right_size(each: Accelerator) -> None:
    assert each.memory and each.bandwidth and each.interconnect and each.price
    gigabytes = float(each.name.rpartition("-")[2].removesuffix("gb"))
    assert 0.9 < each.memory / (gigabytes * 1e9) < 1.08, "what the driver tells is near what the name says"
    assert 2e11 < each.bandwidth < 1e13
    assert each.interconnect < each.bandwidth
    assert each.flops["fp16"] == each.flops.get("bf16", each.flops["fp16"]) > each.flops["fp32"]
    pairs: tuple[tuple[Precision, Precision], ...] = (("fp16", "fp8"), ("fp16", "int8"), ("fp8", "fp4"))
    for half, quarter in pairs:
        if quarter in each.flops:
            assert each.flops[quarter] / each.flops[half] == pytest.approx(2, rel=0.02), "half the bits, twice the speed"
    assert each.price.source and re.search(r"20\d\d", each.price.source), "whose price, and as of when"
    assert each.price.spot is None or each.price.spot < each.price.on_demand


def test_the_file_says_nothing_that_nobody_reads() -> None:
    text = (ROOT / "operator" / "tokenfleet" / "planning" / "accelerators.toml").read_text()
    head = text.partition("\n[")[0]
    for fields in tomllib.loads(text).values():
        for name in fields:
            assert f"# {name}:" in head or name == "summary", f"the head of the file does not explain {name}"


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
