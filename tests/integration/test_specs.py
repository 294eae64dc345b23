"""The table of specs against a real API server, which holds the CRD's half of the rules; tests/api has pydantic's half."""

import copy
import time
from collections.abc import Iterator

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.api.specs import BAD, GOOD, MINIMAL, ROUTER, Json, Row, parameters
from tests.integration.raw_api import connected
from tokenfleet import contract
from tokenfleet.api.crd import custom_resource_definitions
from tokenfleet.api.v1alpha1 import PARSERS, LLMDeploymentSpec, LLMRouterSpec
from tokenfleet.controller import kinds

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_STRICT = {"fieldValidation": "Strict", "dryRun": "All"}


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    """With the CRDs established."""
    with connected(control_plane) as client:
        for definition in custom_resource_definitions():
            applied = client.patch(
                f"{_CRDS}/{definition['metadata']['name']}",
                json=definition,
                params={"fieldManager": "test", "force": "true", "fieldValidation": "Strict"},
                headers={"Content-Type": "application/apply-patch+yaml"},
            )
            assert applied.is_success, applied.text
        for kind in kinds.OWNERS:
            _await_served(client, kind.path("default"))
        yield client


def _await_served(client: httpx.Client, objects: str) -> None:
    """A CRD's objects are served a moment after it was taken."""
    deadline = time.monotonic() + 30
    while not (answer := client.get(objects)).is_success:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def _objects(kind: str) -> str:
    return kinds.of(kind).path("default")


def _object(name: str, spec: Json, *, kind: str = contract.KIND) -> Json:
    return {
        "apiVersion": contract.API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": copy.deepcopy(spec),
    }


@pytest.mark.parametrize("row", parameters(GOOD))
def test_a_good_spec_is_taken_with_the_defaults_that_pydantic_has(api: httpx.Client, row: Row) -> None:
    answer = api.post(_objects(row.kind), json=_object(row.name, row.spec, kind=row.kind), params=_STRICT)
    assert answer.is_success, answer.text
    taken = answer.json()["spec"]
    here = PARSERS[row.kind](row.name, row.spec)
    assert PARSERS[row.kind](row.name, taken) == here
    same = here.model_dump(by_alias=True, exclude_none=True, exclude={"pod_template": {"spec"}})
    assert taken == same | {name: taken[name] for name in ("podTemplate",) if name in taken}


@pytest.mark.parametrize("row", parameters(BAD))
def test_a_bad_spec_is_refused_with_the_field_and_the_fix(api: httpx.Client, row: Row) -> None:
    answer = api.post(_objects(row.kind), json=_object(row.name, row.spec, kind=row.kind), params=_STRICT)
    assert answer.status_code in (400, 422), answer.text
    message = answer.json()["message"]
    for words in row.words:
        assert words.lower() in message.lower()


@pytest.mark.parametrize("kind", [contract.KIND, contract.ROUTER_KIND])
def test_an_object_without_a_spec_is_refused(api: httpx.Client, kind: str) -> None:
    answer = api.post(_objects(kind), json={**_object("x", {}, kind=kind), "spec": None}, params=_STRICT)
    assert answer.status_code == 422
    assert "spec: Required value" in answer.json()["message"]


@pytest.mark.parametrize(("kind", "spec"), [(contract.KIND, LLMDeploymentSpec), (contract.ROUTER_KIND, LLMRouterSpec)])
def test_the_fields_can_be_explained(api: httpx.Client, kind: str, spec: type[LLMDeploymentSpec | LLMRouterSpec]) -> None:
    published = api.get("/openapi/v3/apis/tokenfleet.dev/v1alpha1").json()["components"]["schemas"]
    (schema,) = [value for name, value in published.items() if name.endswith(f".{kind}")]
    assert set(schema["properties"]["spec"]["properties"]) == {field.alias for field in spec.model_fields.values()}


@pytest.mark.parametrize(("kind", "spec", "replicas"), [(contract.KIND, MINIMAL, 1), (contract.ROUTER_KIND, ROUTER, 2)])
def test_scale_reads_and_writes_replicas(api: httpx.Client, kind: str, spec: Json, replicas: int) -> None:
    objects = _objects(kind)
    created = api.post(objects, json=_object("scaled", spec, kind=kind), params={"fieldValidation": "Strict"})
    assert created.is_success, created.text
    try:
        scale = api.get(f"{objects}/scaled/scale").json()
        assert scale["spec"] == {"replicas": replicas}
        scaled = api.patch(
            f"{objects}/scaled/scale",
            json={"spec": {"replicas": 3}},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert scaled.is_success, scaled.text
        assert api.get(f"{objects}/scaled").json()["spec"]["replicas"] == 3
    finally:
        api.delete(f"{objects}/scaled")
