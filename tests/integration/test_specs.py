"""The table of specs against a real API server, which holds the CRD's half of the rules; tests/api has pydantic's half."""

import copy
import time
from collections.abc import Iterator

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.api.specs import BAD, GOOD, MINIMAL, Json, Row, parameters
from tests.integration.raw_api import connected
from tokenfleet import contract
from tokenfleet.api.crd import custom_resource_definition
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, parse_spec

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_OBJECTS = f"/apis/{contract.API_VERSION}/namespaces/default/{contract.PLURAL}"
_STRICT = {"fieldValidation": "Strict", "dryRun": "All"}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    """With the CRD established."""
    with connected(control_plane) as client:
        definition = custom_resource_definition()
        path = f"{_CRDS}/{definition['metadata']['name']}"
        applied = client.patch(
            path,
            json=definition,
            params={"fieldManager": "test", "force": "true", "fieldValidation": "Strict"},
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        assert applied.is_success, applied.text
        _await_served(client)
        yield client


def _await_served(client: httpx.Client) -> None:
    """A CRD's objects are served a moment after it was taken."""
    deadline = time.monotonic() + 30
    while not (answer := client.get(_OBJECTS)).is_success:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def _object(name: str, spec: Json) -> Json:
    return {
        "apiVersion": contract.API_VERSION,
        "kind": contract.KIND,
        "metadata": {"name": name, "namespace": "default"},
        "spec": copy.deepcopy(spec),
    }


@pytest.mark.parametrize("row", parameters(GOOD))
def test_a_good_spec_is_taken_with_the_defaults_that_pydantic_has(api: httpx.Client, row: Row) -> None:
    answer = api.post(_OBJECTS, json=_object(row.name, row.spec), params=_STRICT)
    assert answer.is_success, answer.text
    taken = answer.json()["spec"]
    here = parse_spec(row.name, row.spec)
    assert parse_spec(row.name, taken) == here
    assert taken == here.model_dump(by_alias=True, exclude_none=True, exclude={"pod_template": {"spec"}}) | {
        "podTemplate": taken["podTemplate"]
    }


@pytest.mark.parametrize("row", parameters(BAD))
def test_a_bad_spec_is_refused_with_the_field_and_the_fix(api: httpx.Client, row: Row) -> None:
    answer = api.post(_OBJECTS, json=_object(row.name, row.spec), params=_STRICT)
    assert answer.status_code in (400, 422), answer.text
    message = answer.json()["message"]
    for words in row.words:
        assert words.lower() in message.lower()


def test_an_object_without_a_spec_is_refused(api: httpx.Client) -> None:
    answer = api.post(_OBJECTS, json={**_object("x", {}), "spec": None}, params=_STRICT)
    assert answer.status_code == 422
    assert "spec: Required value" in answer.json()["message"]


def test_the_fields_can_be_explained(api: httpx.Client) -> None:
    published = api.get("/openapi/v3/apis/tokenfleet.dev/v1alpha1").json()["components"]["schemas"]
    (schema,) = [value for name, value in published.items() if name.endswith("." + contract.KIND)]
    assert set(schema["properties"]["spec"]["properties"]) == {field.alias for field in LLMDeploymentSpec.model_fields.values()}


def test_scale_reads_and_writes_replicas(api: httpx.Client) -> None:
    created = api.post(_OBJECTS, json=_object("scaled", MINIMAL), params={"fieldValidation": "Strict"})
    assert created.is_success, created.text
    try:
        scale = api.get(f"{_OBJECTS}/scaled/scale").json()
        assert scale["spec"] == {"replicas": 1}
        scaled = api.patch(
            f"{_OBJECTS}/scaled/scale",
            json={"spec": {"replicas": 3}},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert scaled.is_success, scaled.text
        assert api.get(f"{_OBJECTS}/scaled").json()["spec"]["replicas"] == 3
    finally:
        api.delete(f"{_OBJECTS}/scaled")
