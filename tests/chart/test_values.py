"""The chart's values and their schema, without helm: closed, complete, and the same as what values.yaml documents."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "charts" / "tokenfleet"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
EVERYTHING: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "values" / "everything.yaml").read_text())

OPEN = {"podSecurityContext", "securityContext", "affinity", "global", "tolerations", "topologySpreadConstraints"}
"""Parts of a PodSpec, which the API server checks, and what Helm itself brings."""


def merged(base: Any, over: Any) -> Any:
    """As helm merges values: maps key by key, all else replaced."""
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: merged(base.get(key), value) for key, value in over.items()}
    return over


def paths(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{prefix}{name}", inner
        yield from paths(inner, f"{prefix}{name}.")


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def at(values: dict[str, Any], path: str) -> Any:
    found: Any = values
    for name in path.split("."):
        found = (found or {}).get(name)
    return found


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="the defaults"),
        pytest.param(EVERYTHING, id="everything set"),
        pytest.param({"global": {"imageRegistry": "x"}}, id="as a dependency of another chart"),
        pytest.param({"image": {"repository": "host:5000/a/b"}}, id="a registry with a port"),
        pytest.param({"strategy": {"type": "Recreate"}}, id="recreate"),
    ],
)
def test_values_that_are_meant_pass(values: dict[str, Any]) -> None:
    jsonschema.validate(merged(DEFAULTS, values), SCHEMA)


def test_every_object_of_the_schema_is_closed_and_complete() -> None:
    assert not SCHEMA["additionalProperties"]
    for path, schema in paths(SCHEMA):
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path
        elif schema.get("type") == "object" and path not in OPEN:
            assert isinstance(schema["additionalProperties"], dict), path


def test_the_schema_and_the_file_know_the_same_values() -> None:
    documented = {path for path in leaves(DEFAULTS) if path.partition(".")[0] not in OPEN | {"resources"}}
    known = {path for path, schema in paths(SCHEMA) if "properties" not in schema and path not in OPEN}
    kubernetes_own = {"strategy.rollingUpdate.maxSurge", "strategy.rollingUpdate.maxUnavailable"}
    assert known - documented - {"resources.requests", "resources.limits"} == kubernetes_own
    assert documented - known == set()


def test_the_file_explains_every_value() -> None:
    """Paragraphs of values begin with a comment."""
    paragraphs = (CHART / "values.yaml").read_text().split("\n\n")
    assert [paragraph for paragraph in paragraphs if not paragraph.startswith("#")] == []


TRUE_BY_NATURE = ("crds.enabled", "serviceAccount.create", "rbac.create", "rbac.userRoles", "strategy.type")
"""Where the other value would take away what the golden render is there to show."""


def test_the_golden_render_of_everything_sets_every_value() -> None:
    paths_of_values = [path for path, schema in paths(SCHEMA) if "properties" not in schema and path != "global"]
    same = [path for path in paths_of_values if at(EVERYTHING, path) in (None, at(DEFAULTS, path))]
    assert same == list(TRUE_BY_NATURE)


def test_chart_images_and_distribution_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]
