"""How kopf is set up: what it may do to the cluster, and how long it bears with it."""

import itertools
import logging

import kopf
import pytest

from tests.controller.objects import SETTINGS, llm_deployment, llm_router, router_spec_of, spec_of
from tokenfleet import contract
from tokenfleet.controller import handlers, kinds, logs
from tokenfleet.controller.resources import build_children
from tokenfleet.errors import InvalidSettings
from tokenfleet.settings import ControllerSettings


async def _no_login(**_: object) -> None:
    return None


def test_every_kind_of_child_is_watched_and_stored() -> None:
    deployment = llm_deployment()
    for child in build_children(deployment, spec_of(deployment), SETTINGS):
        kind = kinds.of(child["kind"])
        assert kind in kinds.CHILDREN
        assert kind.api_version == child["apiVersion"]


def test_children_and_pods_are_watched_by_a_label_that_all_of_them_have() -> None:
    selectors = handlers.build_settings(lease="lease").watching.label_selectors
    assert len(selectors) == len((*kinds.CHILDREN, kinds.POD))
    (label,) = set(selectors.values())
    for owner, spec in ((llm_deployment(), spec_of(llm_deployment())), (llm_router(), router_spec_of(llm_router()))):
        for child in build_children(owner, spec, SETTINGS):
            assert label in child["metadata"]["labels"]


def test_kopf_only_watches() -> None:
    """Any other handler would put finalizers or annotations on the objects."""
    registry = handlers.build_registry(_no_login, objects=lambda *_: None, leases=lambda *_: None)
    watched = {handler.id for handler in registry._watching.get_all_handlers()}
    assert watched == {kind.plural for kind in (*kinds.STORED, kinds.LEASE)}
    more = handlers.build_registry(_no_login, objects=lambda *_: None, leases=lambda *_: None, nodes=lambda *_: None)
    assert {handler.id for handler in more._watching.get_all_handlers()} - watched == {"nodes"}
    for others in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert not others.get_all_handlers()


def test_requests_are_repeated_without_end() -> None:
    settings = handlers.build_settings(lease="lease")
    backoffs = settings.networking.error_backoffs
    assert not hasattr(backoffs, "__len__")
    assert isinstance(backoffs, handlers.EndlessBackoff)
    waits = list(itertools.islice(backoffs, 1000))
    assert waits[0] < 1 and max(waits) <= handlers.BACKOFF_CAP_SECONDS
    assert all(wait > 0.1 for wait in waits)


def test_silence_ends_a_stream_later_than_bookmarks_come_and_sooner_than_the_probe_fails() -> None:
    settings = handlers.build_settings(lease="lease")
    assert 60 < settings.watching.inactivity_timeout < SETTINGS.liveness_seconds
    assert settings.watching.server_timeout is not None and settings.watching.client_timeout is not None
    assert settings.watching.server_timeout < settings.watching.client_timeout


def test_events_are_ours_to_post_and_nothing_is_remembered_on_objects() -> None:
    settings = handlers.build_settings(lease="lease")
    assert not settings.posting.enabled
    assert settings.scanning.disabled
    body = kopf.Body({"metadata": {"annotations": {"a": "b"}}, "spec": {"x": 1}})
    assert settings.persistence.diffbase_storage.build(body=body) == {}
    assert settings.persistence.diffbase_storage.fetch(body=body) is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Request attempt #1/∞ failed; will retry: GET /x", True),
        ("Request attempt #2 failed; will retry: GET /x", True),
        ("Request attempt #3 failed; will retry: GET /x", False),
        ("Request attempt #40 failed; will retry: GET /x", True),
        ("Request attempt #3 failed; escalating: GET /x", True),
        ("Anything else", True),
    ],
)
def test_of_endless_attempts_only_some_are_told(line: str, told: bool) -> None:
    assert logs.is_telling(logging.LogRecord("kopf", logging.ERROR, "", 0, line, None, None)) is told


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("TOKENFLEET_LOG_LEVEL", "loud", "info, debug, warning, error"),
        ("TOKENFLEET_LEASE_SECONDS", "1", "outside of 3 to 3600"),
        ("TOKENFLEET_WATCH_NODES", "yes", "not one of false, true"),
        ("TOKENFLEET_LIVENESS_SECONDS", "soon", "not a whole number"),
        ("TOKENFLEET_IDENTITY", "", "TOKENFLEET_IDENTITY is not set"),
    ],
)
def test_settings_that_cannot_be_used_are_named(name: str, value: str, complaint: str) -> None:
    environment = {
        "TOKENFLEET_OPERATOR_IMAGE": "a",
        "TOKENFLEET_ENGINE_IMAGE": "b",
        "TOKENFLEET_ENGINE_CPU_IMAGE": "c",
        "TOKENFLEET_IDENTITY": "me",
        contract.ENV_NAMESPACE: "d",
        name: value,
    }
    with pytest.raises(InvalidSettings, match=complaint):
        ControllerSettings.from_environment(environment)
