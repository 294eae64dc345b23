"""The examples, without a cluster: what they name exists, and what they need of the chart, the chart has."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from tests.chart.test_values import CHART, DEFAULTS, ROOT, SCHEMA, merged
from tokenfleet.api.v1alpha1 import PARSERS, LLMDeploymentSpec, parse_router_spec
from tokenfleet.controller.resources import build_children
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.sharing import Member, unresolved
from tokenfleet.settings import ControllerSettings

EXAMPLES = ROOT / "examples"
APPLICATIONS = list(yaml.safe_load_all((EXAMPLES / "gitops" / "argocd-application.yaml").read_text()))
ENVIRONMENT = {
    "TOKENFLEET_OPERATOR_IMAGE": "operator",
    "TOKENFLEET_ENGINE_IMAGE": "engine",
    "TOKENFLEET_ENGINE_CPU_IMAGE": "engine-cpu",
    "TOKENFLEET_NAMESPACE": "tokenfleet-system",
    "TOKENFLEET_IDENTITY": "test",
}


def deployments() -> list[Any]:
    return [
        pytest.param(document, id=f"{path.name}, {document['metadata']['name']}")
        for path in sorted(EXAMPLES.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document["kind"] in PARSERS
    ]


@pytest.mark.parametrize("document", deployments())
def test_the_controller_can_run_it(document: dict[str, Any]) -> None:
    metadata = document["metadata"] | {"namespace": "examples", "uid": "u"}
    spec = PARSERS[document["kind"]](metadata["name"], json.loads(json.dumps(document["spec"])))
    if isinstance(spec, LLMDeploymentSpec):
        find_accelerator(spec.accelerator)
    settings = ControllerSettings.from_environment(ENVIRONMENT)
    assert build_children({**document, "metadata": metadata}, spec, settings)


@pytest.mark.parametrize("path", [EXAMPLES / "shared-router.yaml", EXAMPLES / "canary.yaml"], ids=lambda path: path.name)
def test_the_routes_of_a_shared_router_lead_somewhere(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    (router,) = [document for document in documents if document["kind"] == "LLMRouter"]
    spec = parse_router_spec("shared", json.loads(json.dumps(router["spec"])))
    members = {
        document["metadata"]["name"]: Member(
            document["spec"]["model"]["servedName"],
            tuple(adapter["name"] for adapter in document["spec"]["model"].get("adapters") or ()),
        )
        for document in documents
        if document["spec"].get("routerRef") == {"name": router["metadata"]["name"]}
    }
    assert len(members) == len(documents) - 1
    assert list(unresolved(spec.routes, members)) == []


def test_the_application_installs_this_chart_with_values_that_it_takes() -> None:
    source = APPLICATIONS[0]["spec"]["source"]
    assert (ROOT / source["path"]).samefile(CHART)
    assert source["targetRevision"] == f"v{yaml.safe_load((CHART / 'Chart.yaml').read_text())['version']}"
    jsonschema.validate(merged(DEFAULTS, source["helm"]["valuesObject"]), SCHEMA)


def test_the_upload_pod_runs_the_image_of_this_version() -> None:
    _, pod = yaml.safe_load_all((EXAMPLES / "model-volume.yaml").read_text())
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert pod["spec"]["containers"][0]["image"] == f"{DEFAULTS['image']['repository']}:{version}"


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in sorted(EXAMPLES.rglob("*.yaml"))])
def test_a_comment_says_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("# ")
