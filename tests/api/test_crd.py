"""The CRD as it is generated: the files that users install hold it, and kubectl finds in it what people need."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import yaml
from pydantic import Field

from tests.api.specs import Json
from tokenfleet.api import crd, router, v1alpha1
from tokenfleet.api.rules import Rule, Ruled
from tokenfleet.router import terms

ROOT = Path(__file__).parent.parent.parent
_SIZE_THAT_CLIENT_SIDE_APPLY_TAKES = 256 * 1024


def _version(kind: crd.Kind) -> Json:
    (version,) = crd.custom_resource_definition(kind)["spec"]["versions"]
    return dict(version)


def _schema(kind: crd.Kind) -> Json:
    schema: Json = _version(kind)["schema"]["openAPIV3Schema"]
    return schema


def _nodes(node: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Every schema below `node`, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(node.get(word), dict):
            yield from _nodes(node[word], f"{path}[]")


def _all(kind: crd.Kind) -> dict[str, Json]:
    properties = _schema(kind)["properties"]
    return {path: node for part in ("spec", "status") for path, node in _nodes(properties[part], part)}


_ALL = {f"{kind.name}.{path}": node for kind in crd.KINDS for path, node in _all(kind).items()}
KINDS = [pytest.param(kind, id=kind.name) for kind in crd.KINDS]


@pytest.mark.parametrize(
    ("path", "made"),
    [
        *(pytest.param(f"crds/{kind.plural}.yaml", crd.plain_yaml(kind), id=f"the CRD of {kind.name}") for kind in crd.KINDS),
        pytest.param("charts/tokenfleet/templates/crds.yaml", crd.chart_template(), id="the chart"),
    ],
)
def test_the_committed_file_holds_what_the_models_say(path: str, made: str) -> None:
    assert (ROOT / path).read_text() == made, "run `make crds` and commit the files"


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


def test_only_the_pod_template_and_what_planning_keeps_are_open() -> None:
    open_ones = [path for path, node in _ALL.items() if "x-kubernetes-preserve-unknown-fields" in node]
    kept = [f"LLMDeployment.status.model.{name}" for name in ("facts", "draft")]
    assert open_ones == ["LLMDeployment.spec.podTemplate.spec", *kept]


def test_every_rule_of_the_models_is_in_the_schema() -> None:
    written = {rule["message"] for node in _ALL.values() for rule in node.get("x-kubernetes-validations", ())}
    found = [*vars(v1alpha1).values(), *vars(router).values()]
    models = [model for model in found if isinstance(model, type) and issubclass(model, Ruled)]
    assert written == {rule.message for model in models for rule in model.rules}


def test_every_rule_says_the_fix() -> None:
    for path, node in _ALL.items():
        for rule in node.get("x-kubernetes-validations", ()):
            assert " must " in rule["message"] or ":" in rule["message"], path


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_small_enough_for_a_client_side_apply(kind: crd.Kind) -> None:
    assert len(crd.plain_yaml(kind)) < _SIZE_THAT_CLIENT_SIDE_APPLY_TAKES


def test_all_files_can_be_read_as_yaml() -> None:
    for kind in crd.KINDS:
        assert yaml.safe_load(crd.plain_yaml(kind)) == crd.custom_resource_definition(kind)
    lines = crd.chart_template().splitlines()
    assert (lines[0], lines[-1]) == ("{{- if .Values.crds.enabled }}", "{{- end }}")
    plain = "\n".join(line for line in lines if "{{" not in line and "helm.sh/resource-policy" not in line)
    assert [each["spec"] for each in yaml.safe_load_all(plain)] == [each["spec"] for each in crd.custom_resource_definitions()]


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        (
            crd.LLM_DEPLOYMENT,
            {"Model": 0, "Ready": 0, "Queue": 0, "Reason": 0, "Age": 0, "In flight": 1, "Accelerator": 1, "$/H": 1, "URL": 1},
        ),
        (crd.LLM_ROUTER, {"Models": 0, "Ready": 0, "Reason": 0, "Age": 0, "URL": 1}),
    ],
    ids=["LLMDeployment", "LLMRouter"],
)
def test_kubectl_get_shows_what_a_user_looks_for(kind: crd.Kind, columns: dict[str, int]) -> None:
    shown = {column["name"]: column.get("priority", 0) for column in _version(kind)["additionalPrinterColumns"]}
    assert shown == columns


@pytest.mark.parametrize("kind", KINDS)
def test_scale_and_status_are_subresources(kind: crd.Kind) -> None:
    subresources = _version(kind)["subresources"]
    assert subresources["status"] == {}
    scale = subresources["scale"]
    for path in (scale["specReplicasPath"], scale["statusReplicasPath"], scale["labelSelectorPath"]):
        assert f"{kind.name}{path}" in _ALL


class _Unknown(Ruled):
    rules: ClassVar[tuple[Rule, ...]] = ()
    price: float = Field(default=1.0, multiple_of=0.5, description="A construct that no structural schema has.")


def test_a_construct_that_cannot_be_translated_is_refused_loudly() -> None:
    with pytest.raises(TypeError, match="multipleOf"):
        crd.schema_of(_Unknown)


@pytest.mark.parametrize(
    ("kind", "smallest"),
    [(crd.LLM_DEPLOYMENT, {"model": {"source": "pvc://m"}, "accelerator": "cpu"}), (crd.LLM_ROUTER, {})],
    ids=["LLMDeployment", "LLMRouter"],
)
def test_defaults_in_the_schema_are_those_of_pydantic(kind: crd.Kind, smallest: Json) -> None:
    taken = kind.spec.model_validate(smallest)
    for name, value in taken.model_dump(by_alias=True, exclude_none=True, exclude=set(smallest)).items():
        assert _defaulted(_ALL[f"{kind.name}.spec.{name}"]) == value


def test_a_router_reads_what_the_spec_says_with_the_same_defaults() -> None:
    """router/terms.py has the names and defaults once more, since a router loads no pydantic."""
    spec = router.Router().model_dump(by_alias=True, exclude_none=True)
    assert msgspec.json.decode(json.dumps(spec), type=terms.Terms) == terms.Terms()
    read = {field.encode_name for field in msgspec.structs.fields(terms.Terms)}
    unread = {field.alias for field in router.Router.model_fields.values()} - read
    assert unread == {"replicas", "auth", "tls", "redis", "tracing"}


def _defaulted(node: Json) -> Any:
    """What the API server fills in where the field is absent."""
    default = node["default"]
    if not isinstance(default, dict) or "properties" not in node:
        return default
    return {name: _defaulted(child) for name, child in node["properties"].items() if "default" in child} | {
        name: value for name, value in default.items() if not isinstance(value, dict)
    }
