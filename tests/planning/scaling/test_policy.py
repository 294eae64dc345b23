"""From a spec to a policy."""

import pytest

from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.planning.scaling import Policy, Schedule, policy_of

SPEC = {"model": {"source": "pvc://m"}, "accelerator": "nvidia"}


def test_without_autoscaling_there_is_none() -> None:
    assert policy_of(parse_spec("m", SPEC)) is None


def test_the_defaults() -> None:
    assert policy_of(parse_spec("m", {**SPEC, "autoscaling": {"maxReplicas": 4}})) == Policy(min_replicas=1, max_replicas=4)


def test_every_field() -> None:
    spec = {
        **SPEC,
        "autoscaling": {
            "minReplicas": 0,
            "maxReplicas": 9,
            "queueDepth": 3,
            "concurrency": 12,
            "scaleDown": {"stabilizationSeconds": 60},
            "scaleToZeroAfterSeconds": 900,
            "schedules": [{"cron": "0 8 * * 1-5", "timezone": "Europe/Paris", "minReplicas": 2, "maxReplicas": 12}],
        },
        "slo": {"ttftMilliseconds": 1500, "itlMilliseconds": 40},
        "router": {"maxInFlight": 48},
    }
    assert policy_of(parse_spec("m", spec)) == Policy(
        min_replicas=0,
        max_replicas=9,
        queue_depth=3,
        concurrency=12,
        max_in_flight=48,
        ttft_seconds=1.5,
        itl_seconds=0.04,
        stabilization_seconds=60,
        scale_to_zero_seconds=900,
        schedules=(Schedule(cron="0 8 * * 1-5", timezone="Europe/Paris", min_replicas=2, max_replicas=12),),
    )


@pytest.mark.parametrize(
    ("more", "shared", "expected"),
    [
        pytest.param({}, None, 256, id="nobody says anything"),
        pytest.param({"engine": {"batching": {"maxNumSeqs": 64}}}, None, 64, id="the engine's"),
        pytest.param(
            {"router": {"maxInFlight": 32}, "engine": {"batching": {"maxNumSeqs": 64}}}, None, 32, id="the router's, smaller"
        ),
        pytest.param(
            {"router": {"maxInFlight": 99}, "engine": {"batching": {"maxNumSeqs": 64}}},
            None,
            64,
            id="what the engine cannot work on yet waits in it",
        ),
        pytest.param({"routerRef": {"name": "shared"}}, 16, 16, id="the shared router's"),
        pytest.param({}, 16, 256, id="a shared router that is not its own"),
    ],
)
def test_what_a_replica_has_at_once(more: dict[str, object], shared: int | None, expected: int) -> None:
    spec = parse_spec("m", {**SPEC, "autoscaling": {"maxReplicas": 4}, **more})
    policy = policy_of(spec, router_max_in_flight=shared)
    assert policy is not None
    assert policy.max_in_flight == expected


def test_a_replica_carries_at_least_one() -> None:
    assert Policy(min_replicas=1, max_replicas=2, concurrency=1).carries == 1
    assert Policy(min_replicas=1, max_replicas=2, max_in_flight=1).carries == 1
    assert Policy(min_replicas=1, max_replicas=2, concurrency=10).carries == 9
    assert Policy(min_replicas=1, max_replicas=2, concurrency=10, max_in_flight=4).carries == 4, "it never has more"
