"""What engines cost, with everything but a cluster: a controller with a file of prices, a router and simulated engines."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import pytest

from e2e.cluster.control_plane import ControlPlane
from tests.integration.loopback_node import Node
from tests.integration.operators import Json, Namespace, Operator, Operators, eventually
from tokenfleet import contract
from tokenfleet.api import conditions as c

NAME, ROUTER = "priced", "priced-router"


@dataclass
class Mount:
    """A ConfigMap as the kubelet has it: files are links through ..data, which is replaced as a whole."""

    folder: Path
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def path(self) -> Path:
        return self.folder / "classes"

    def write(self, text: str) -> None:
        version = self.folder / f"..{next(self._numbers)}"
        version.mkdir()
        (version / "classes").write_text(text)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self.folder / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to(Path("..data") / "classes")


def priced(amount: float) -> str:
    return json.dumps({"simulated": {"price": {"on_demand": amount, "spot": amount / 3, "source": "a test"}}})


@pytest.fixture
def namespace(api: httpx.Client) -> Namespace:
    return Namespace(api, "costs")


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    folder = tmp_path / "accelerators"
    folder.mkdir()
    mount = Mount(folder)
    mount.write(priced(1.5))
    return mount


@pytest.fixture
def operator(namespace: Namespace, control_plane: ControlPlane, operators: Operators, mount: Mount) -> Operator:
    return operators.start(control_plane.kubeconfig, namespace.name, ACCELERATORS_FILE=str(mount.path), SPOT_PRICES="true")


@pytest.fixture
def node(namespace: Namespace, operator: Operator, control_plane: ControlPlane, tmp_path: Path) -> Iterator[Node]:
    node = Node(namespace, tmp_path, control_plane.kubeconfig)
    node.start()
    namespace.deploy(NAME, accelerator="simulated", replicas=2, router={"replicas": 1}, drain={"timeoutSeconds": 5})
    eventually("all to serve", lambda: namespace.condition(NAME, c.READY).get("reason") == c.AS_EXPECTED, seconds=60)
    yield node
    node.close()


def test_prices_and_tokens_become_status_and_metrics(
    namespace: Namespace, node: Node, operator: Operator, mount: Mount
) -> None:
    def costs(hourly: str) -> bool:
        found = (namespace.one(contract.KIND, NAME).get("status") or {}).get("cost")
        return bool(found == {"currency": "USD", "hourly": hourly})

    def metric(name: str, **labels: str) -> float:
        told = {"deployment": NAME, "namespace": namespace.name, **labels}
        words = ",".join(f'{key}="{value}"' for key, value in sorted(told.items()))
        return operator.metric(f"{name}{{{words}}}")

    eventually("two replicas at the price of spot", lambda: costs("1"))
    assert metric(contract.METRIC_COST_HOURLY, currency="USD") == 1.0

    used = [_ask(f"http://{node.address(ROUTER)}:{contract.ROUTER_PORT}") for _ in range(3)]
    total = f"{contract.METRIC_COST_TOKENS}_total"
    prompts, completions = (sum(one[kind] for one in used) for kind in ("prompt_tokens", "completion_tokens"))
    assert prompts and completions
    eventually("the prompts", lambda: metric(total, kind="prompt") == prompts)
    eventually("the answers", lambda: metric(total, kind="completion") == completions)

    mount.write(priced(6))
    eventually("another price, without a restart", lambda: costs("4"))
    mount.write('{"simulated": {"price": {"on_demand": "much"}}}')
    eventually("a mistake to be told", lambda: operator.metric(contract.METRIC_ACCELERATORS_INVALID) == 1)
    assert "[simulated] price.on_demand" in operator.log
    assert costs("4")
    namespace.patch(contract.KIND, NAME, {"spec": {"replicas": 1}})
    eventually("one replica less", lambda: costs("2"))
    mount.write(priced(3))
    eventually("the mistake to be gone", lambda: costs("1") and not operator.metric(contract.METRIC_ACCELERATORS_INVALID))
    assert operator.metric(f"{contract.METRIC_QUEUE_DEPTH}") == 0
    assert _column(namespace, "$/H") == "1"


def _ask(url: str) -> Json:
    """What an answer used."""
    body = {"model": NAME, "prompt": "How much is it?", "max_tokens": 7}
    answer = httpx.post(f"{url}/v1/completions", json=body, trust_env=False, timeout=30).raise_for_status()
    usage: Json = answer.json()["usage"]
    return usage


def _column(namespace: Namespace, name: str) -> str:
    """As `kubectl get -o wide` shows it."""
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    table = namespace.client.get(namespace.path(contract.KIND, NAME), headers=accept).raise_for_status().json()
    heads = [column["name"] for column in table["columnDefinitions"]]
    return str(table["rows"][0]["cells"][heads.index(name)])
