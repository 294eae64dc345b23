"""The CRD as it is generated: the files that users install hold it, and kubectl finds in it what people need."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from pydantic import Field

from tests.api.specs import Json
from tokenfleet.api import crd, v1alpha1
from tokenfleet.api.rules import Rule, Ruled
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec

ROOT = Path(__file__).parent.parent.parent
_SIZE_THAT_CLIENT_SIDE_APPLY_TAKES = 256 * 1024


def _schema() -> Json:
    (version,) = crd.custom_resource_definition()["spec"]["versions"]
    schema: Json = version["schema"]["openAPIV3Schema"]
    return schema


def _nodes(node: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Every schema below `node`, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(node.get(word), dict):
            yield from _nodes(node[word], f"{path}[]")


_ALL = {path: node for part in ("spec", "status") for path, node in _nodes(_schema()["properties"][part], part)}


@pytest.mark.parametrize(
    ("path", "made"),
    [
        pytest.param("crds/llmdeployments.yaml", crd.plain_yaml, id="crds/ holds what the models say"),
        pytest.param("charts/tokenfleet/templates/crds.yaml", crd.chart_template, id="the chart holds what the models say"),
    ],
)
def test_the_committed_file_is_current(path: str, made: Any) -> None:
    assert (ROOT / path).read_text() == made(), "run `make crds` and commit the files"


def test_every_field_says_what_it_is_for() -> None:
    silent = [path for path, node in _ALL.items() if not node.get("description") and not path.endswith("[]")]
    assert silent == []


def test_descriptions_are_sentences() -> None:
    assert [path for path, node in _ALL.items() if "description" in node and not node["description"].endswith(".")] == []


def test_the_schema_is_structural() -> None:
    for path, node in _ALL.items():
        assert node.get("type") in {"object", "array", "string", "integer", "boolean"}, path
        assert not node.keys() & {"$ref", "anyOf", "allOf", "oneOf", "not", "title", "const", "$defs", "nullable"}, path
        assert not (node.get("properties") and node.get("additionalProperties")), path


def test_only_the_pod_template_is_open() -> None:
    assert [path for path, node in _ALL.items() if "x-kubernetes-preserve-unknown-fields" in node] == ["spec.podTemplate.spec"]


def test_every_rule_of_the_models_is_in_the_schema() -> None:
    written = [rule["message"] for node in _ALL.values() for rule in node.get("x-kubernetes-validations", ())]
    models = [model for model in vars(v1alpha1).values() if isinstance(model, type) and issubclass(model, Ruled)]
    assert sorted(written) == sorted(rule.message for model in models for rule in model.rules)


def test_every_rule_says_the_fix() -> None:
    for path, node in _ALL.items():
        for rule in node.get("x-kubernetes-validations", ()):
            assert " must " in rule["message"] or ":" in rule["message"], path


def test_it_is_small_enough_for_a_client_side_apply() -> None:
    assert len(crd.plain_yaml()) < _SIZE_THAT_CLIENT_SIDE_APPLY_TAKES


def test_both_files_can_be_read_as_yaml() -> None:
    assert yaml.safe_load(crd.plain_yaml()) == crd.custom_resource_definition()
    lines = crd.chart_template().splitlines()
    assert (lines[0], lines[-1]) == ("{{- if .Values.crds.enabled }}", "{{- end }}")
    plain = "\n".join(line for line in lines if "{{" not in line and "helm.sh/resource-policy" not in line)
    assert yaml.safe_load(plain)["spec"] == crd.custom_resource_definition()["spec"]


def test_kubectl_get_shows_what_a_user_looks_for() -> None:
    (version,) = crd.custom_resource_definition()["spec"]["versions"]
    columns = {column["name"]: column.get("priority", 0) for column in version["additionalPrinterColumns"]}
    assert columns == {"Model": 0, "Ready": 0, "Reason": 0, "Age": 0, "Accelerator": 1, "URL": 1}


def test_scale_and_status_are_subresources() -> None:
    (version,) = crd.custom_resource_definition()["spec"]["versions"]
    assert version["subresources"]["status"] == {}
    scale = version["subresources"]["scale"]
    for path in (scale["specReplicasPath"], scale["statusReplicasPath"], scale["labelSelectorPath"]):
        assert path.removeprefix(".") in _ALL


class _Unknown(Ruled):
    rules: ClassVar[tuple[Rule, ...]] = ()
    price: float = Field(default=1.0, multiple_of=0.5, description="A construct that no structural schema has.")


def test_a_construct_that_cannot_be_translated_is_refused_loudly() -> None:
    with pytest.raises(TypeError, match="multipleOf"):
        crd.schema_of(_Unknown)


def test_defaults_in_the_schema_are_those_of_pydantic() -> None:
    taken = LLMDeploymentSpec.model_validate({"model": {"source": "pvc://m"}, "accelerator": "cpu"})
    for name, value in taken.model_dump(by_alias=True, exclude_none=True, exclude={"model", "accelerator"}).items():
        assert _defaulted(_ALL[f"spec.{name}"]) == value


def _defaulted(node: Json) -> Any:
    """What the API server fills in where the field is absent."""
    default = node["default"]
    if not isinstance(default, dict) or "properties" not in node:
        return default
    return {name: _defaulted(child) for name, child in node["properties"].items() if "default" in child} | {
        name: value for name, value in default.items() if not isinstance(value, dict)
    }
