"""The controller as a process: an API that goes away, a watch that dies, a leader that is killed, an upgrade, a goodbye."""

import time
from functools import partial
from pathlib import Path

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.integration.api_proxy import ApiProxy
from tests.integration.operators import Audit, Namespace, Operators, eventually
from tests.integration.raw_api import connected
from tokenfleet import contract
from tokenfleet.api import conditions as c
from tokenfleet.api.crd import LLM_DEPLOYMENT, LLM_ROUTER, custom_resource_definition

NAME = "llama"
AWAY_SECONDS = 60.0
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def deployed(api: httpx.Client, namespace: str) -> Namespace:
    made = Namespace(api, namespace)
    made.deploy(NAME)
    return made


def holder(namespace: Namespace) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases/{contract.LEADER_LEASE}"
    answer = namespace.client.get(path)
    return str(answer.json()["spec"].get("holderIdentity") or "") if answer.status_code == httpx.codes.OK else ""


def is_reconciled(namespace: Namespace) -> bool:
    return bool(namespace.condition(NAME, c.READY)) and len(namespace.children(NAME)) == 10


def test_an_api_that_is_away_is_waited_for(api: httpx.Client, control_plane: ControlPlane, operators: Operators) -> None:
    """It neither ends nor counts as dead meanwhile, goes on by itself, and sees what happened while it could not look."""
    namespace = deployed(api, "away")
    operator = operators.start(control_plane.kubeconfig, namespace.name, LIVENESS_SECONDS="6")
    eventually("the children", lambda: is_reconciled(namespace))
    control_plane.stop_apiserver()
    began = time.monotonic()
    while time.monotonic() - began < AWAY_SECONDS:
        assert operator.running(), operator.log
        assert operator.probe("/healthz") == 200, "an API that is away is no reason to be restarted"
        time.sleep(0.5)
    assert operator.probe("/readyz") == 503
    control_plane.start_apiserver()
    namespace.delete("Service", NAME)
    namespace.patch(contract.KIND, NAME, {"spec": {"replicas": 4}})
    eventually("the Service to be back", lambda: namespace.get("Service", NAME), seconds=60)
    eventually("the new spec", lambda: namespace.one("Deployment", f"{NAME}-engine")["spec"]["replicas"] == 4)
    eventually("it to be ready", operator.ready)
    assert operator.probe("/healthz") == 200
    audit = Audit(control_plane, namespace.name)
    time.sleep(3)
    assert audit.writes() == []
    assert operator.terminate() == 0, operator.log


def test_a_controller_that_starts_while_the_api_is_away_waits_for_it(
    api: httpx.Client, control_plane: ControlPlane, operators: Operators
) -> None:
    namespace = deployed(api, "away-at-start")
    control_plane.stop_apiserver()
    try:
        operator = operators.start(control_plane.kubeconfig, namespace.name)
        eventually("its probes", lambda: operator.probe("/healthz") == 200)
        time.sleep(2)
        assert operator.running() and operator.probe("/healthz") == 200, operator.log
    finally:
        control_plane.start_apiserver()
    eventually("the children", lambda: is_reconciled(namespace))
    assert operator.terminate() == 0, operator.log


def test_another_one_leads_after_the_leader_was_killed(
    api: httpx.Client, control_plane: ControlPlane, operators: Operators
) -> None:
    namespace = deployed(api, "election")
    first = operators.start(control_plane.kubeconfig, namespace.name, identity="first")
    eventually("the first to lead", first.leads)
    second = operators.start(control_plane.kubeconfig, namespace.name, identity="second")
    eventually("the second to stand by", second.ready)
    eventually("the children", lambda: is_reconciled(namespace))
    assert (holder(namespace), second.leads()) == ("first", False)
    first.kill()
    namespace.delete("Service", NAME)
    killed = time.monotonic()
    eventually("the second to lead", second.leads)
    assert time.monotonic() - killed < 3 * 3, "within the Lease's 3 s, and a little"
    eventually("the Service to be back", lambda: namespace.get("Service", NAME))
    assert second.terminate() == 0, second.log
    assert holder(namespace) == "", "given up, so that nobody has to wait"


def test_a_leader_whose_lease_was_taken_ends_at_once(
    api: httpx.Client, control_plane: ControlPlane, operators: Operators
) -> None:
    namespace = deployed(api, "usurped")
    operator = operators.start(control_plane.kubeconfig, namespace.name)
    eventually("it to lead", operator.leads)
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace.name}/leases/{contract.LEADER_LEASE}"
    headers = {"Content-Type": "application/merge-patch+json"}
    namespace.client.patch(path, content='{"spec": {"holderIdentity": "usurper"}}', headers=headers).raise_for_status()
    eventually("its end", lambda: not operator.running(), seconds=10)
    assert operator.child.process.returncode == 1
    assert "usurper leads now" in operator.log
    assert holder(namespace) == "usurper", "what is another's is not given up"


def test_it_counts_as_dead_when_its_watch_is_silent_although_the_api_answers(
    api: httpx.Client, control_plane: ControlPlane, operators: Operators, tmp_path: Path
) -> None:
    namespace = deployed(api, "silence")
    with ApiProxy(control_plane, tmp_path) as proxy:
        operator = operators.start(proxy.kubeconfig, namespace.name, LIVENESS_SECONDS="5")
        eventually("the children", lambda: is_reconciled(namespace))
        began = time.monotonic()
        while time.monotonic() - began < 7:
            assert operator.probe("/healthz") == 200, "events come"
            time.sleep(0.5)
        proxy.watches_are_silent = True
        eventually("the probe to fail", lambda: operator.probe("/healthz") == 503, seconds=20)
        assert operator.running() and operator.leads(), "all else goes on: only the probe tells"
        operator.kill()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_answers_that_refuse_everything_are_waited_out(
    status: int, api: httpx.Client, control_plane: ControlPlane, operators: Operators, tmp_path: Path
) -> None:
    """As while a token is renewed, roles are edited, or the API server is overloaded, restarts or loses its etcd."""
    namespace = deployed(api, f"answers-{status}")
    with ApiProxy(control_plane, tmp_path) as proxy:
        operator = operators.start(proxy.kubeconfig, namespace.name)
        eventually("the children", lambda: is_reconciled(namespace))
        proxy.answers_instead = status
        namespace.delete("Service", NAME)
        time.sleep(4)
        assert operator.running() and operator.probe("/healthz") == 200, operator.log
        proxy.answers_instead = None
        eventually("the Service to be back", lambda: namespace.get("Service", NAME))
        eventually("it to be ready", operator.ready)
        assert operator.terminate() == 0, operator.log


def test_a_crd_that_is_missing_is_waited_for_and_one_that_goes_away_ends_it(tmp_path: Path, operators: Operators) -> None:
    """kopf cannot go on without its resource; the process that the kubelet starts next waits for it."""
    with ControlPlane.start(tmp_path / "plane") as plane, connected(plane) as client:
        Namespace(client, "crd")
        operator = operators.start(plane.kubeconfig, "crd")
        eventually("it to wait", lambda: f"waiting for the CRD of {contract.KIND}" in operator.log)
        assert (operator.probe("/healthz"), operator.probe("/readyz")) == (200, 503)
        client.post(CRDS, json=custom_resource_definition(LLM_DEPLOYMENT)).raise_for_status()
        eventually("it to wait for the other one", lambda: f"waiting for the CRD of {contract.ROUTER_KIND}" in operator.log)
        client.post(CRDS, json=custom_resource_definition(LLM_ROUTER)).raise_for_status()
        eventually("it to go on", operator.leads)
        client.delete(f"{CRDS}/{contract.PLURAL}.{contract.GROUP}").raise_for_status()
        eventually("its end", lambda: not operator.running(), seconds=60)
        assert operator.child.process.returncode == 1
        assert "Cannot go on, ending (watch)" in operator.log


def test_what_happened_while_the_watch_was_silent_is_found_by_listing(
    api: httpx.Client, control_plane: ControlPlane, operators: Operators, tmp_path: Path
) -> None:
    namespace = deployed(api, "unseen")
    with ApiProxy(control_plane, tmp_path) as proxy:
        operator = operators.start(proxy.kubeconfig, namespace.name, RESYNC_SECONDS="4")
        eventually("the children", lambda: is_reconciled(namespace))
        proxy.watches_are_silent = True
        namespace.delete("Service", NAME)
        eventually("the Service to be back", lambda: namespace.get("Service", NAME))
        operator.kill()


def test_an_upgrade_of_the_operator_rolls_routers_and_no_engine(
    api: httpx.Client, control_plane: ControlPlane, operators: Operators
) -> None:
    namespace = deployed(api, "upgrade")
    old = operators.start(control_plane.kubeconfig, namespace.name)
    eventually("the children", lambda: is_reconciled(namespace))
    assert old.terminate() == 0
    before = namespace.children(NAME)
    audit = Audit(control_plane, namespace.name)
    new = operators.start(control_plane.kubeconfig, namespace.name, OPERATOR_IMAGE="example.org/operator:2")

    def image() -> str:
        (container,) = namespace.one("Deployment", f"{NAME}-router")["spec"]["template"]["spec"]["containers"]
        return str(container["image"])

    eventually("the new router", lambda: image() == "example.org/operator:2")
    eventually("it to have settled", new.leads)
    time.sleep(1)
    assert [write for write in audit.writes() if write[1] != "llmdeployments/status"] == [
        ("patch", "deployments", f"{NAME}-router")
    ]
    after = namespace.children(NAME)
    assert {key for key in after if after[key] != before[key]} == {("Deployment", f"{NAME}-router")}
    assert new.terminate() == 0


def test_it_serves_the_whole_cluster_where_no_namespaces_are_named(
    api: httpx.Client, control_plane: ControlPlane, operators: Operators
) -> None:
    here, there = deployed(api, "cluster-wide"), deployed(api, "cluster-wide-2")
    operator = operators.start(control_plane.kubeconfig, here.name, WATCH_NAMESPACES="", LIVENESS_SECONDS="5")
    for namespace in (here, there):
        eventually("the children", partial(is_reconciled, namespace))
        namespace.delete("Service", NAME)
        eventually("the Service to be back", partial(namespace.get, "Service", NAME))
    time.sleep(6)
    assert operator.probe("/healthz") == 200, "its Lease is heard among those of all namespaces"
    assert operator.terminate() == 0, operator.log


def test_only_the_named_namespaces_are_served(api: httpx.Client, control_plane: ControlPlane, operators: Operators) -> None:
    served, own = deployed(api, "served"), deployed(api, "own")
    operator = operators.start(control_plane.kubeconfig, own.name, WATCH_NAMESPACES=served.name, LIVENESS_SECONDS="5")
    eventually("the children", lambda: is_reconciled(served))
    time.sleep(6)
    assert operator.probe("/healthz") == 200, "its Lease is heard, outside of what it serves"
    assert own.children(NAME) == {} and not own.condition(NAME, c.READY)
    assert operator.terminate() == 0, operator.log


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        pytest.param({"WORKERS": "many"}, "TOKENFLEET_WORKERS='many' is not a whole number.", id="a setting"),
        pytest.param({"HEALTH_PORT": "1"}, None, id="a port"),
    ],
)
def test_settings_that_cannot_be_used_end_it_with_one_line(
    variables: dict[str, str], complaint: str | None, control_plane: ControlPlane, operators: Operators
) -> None:
    if complaint is None:  # a port that somebody listens on
        variables, complaint = {"HEALTH_PORT": str(control_plane.layout.apiserver_port)}, "Cannot serve probes and metrics"
    operator = operators.start(control_plane.kubeconfig, "nowhere", **variables)
    eventually("its end", lambda: not operator.running())
    assert operator.child.process.returncode == 2
    assert complaint in operator.log and "Traceback" not in operator.log
