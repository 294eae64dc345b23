"""The engines of the benchmark: LLMDeployments of the local cluster, each with the fields that a row is about.

A row's engines run side by side and take turns, so that what else the machine does falls on all of them alike; an idle engine
costs next to nothing. They are asked at their pods' own addresses, past the router, but for a row that is about the router too.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from e2e import access, install
from e2e.cluster import cluster, images
from e2e.cluster.progress import step
from e2e.deployed import Deployed
from e2e.kubectl import Json, Kubectl
from e2e.model import model, objects
from e2e.model.objects import MODEL
from tokenfleet import contract

NAMESPACE: Final = "tokenfleet-bench"
SERVED: Final = "bench"
SOURCE: Final = f"pvc://models/{MODEL.name}"
CONTEXT: Final = 2048


@dataclass(frozen=True, slots=True)
class Engine:
    """One that is ready."""

    name: str
    url: str
    """Of the pod, or of its router."""
    pod: str


def prepare() -> Kubectl:
    """A cluster with Tokenfleet in it, and a namespace whose claim has the small model and what goes with it."""
    cluster.up()
    built = images.ensure()
    with step("Installing Tokenfleet with helm"):
        install.install(built)
    kubectl = Kubectl(NAMESPACE)
    kubectl.ensure_namespace()
    for recipe in (objects.MODEL, objects.VARIANTS):
        model.ensure(NAMESPACE, images=built, recipe=recipe)
    return kubectl


def build_deployment(name: str, engine: Mapping[str, Any], **spec: Any) -> Json:
    """An LLMDeployment with these fields of spec.engine, and more of spec."""
    return {
        "apiVersion": contract.API_VERSION,
        "kind": contract.KIND,
        "metadata": {"name": name},
        "spec": {
            "model": {"source": SOURCE, "servedName": SERVED},
            "accelerator": "cpu",
            "engine": {"maxModelLen": CONTEXT, **engine},
            "router": {"replicas": 1},
            "drain": {"timeoutSeconds": 5},
            **spec,
        },
    }


_CPU_SECONDS: Final = """
import os, pathlib
ticks = 0
for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
        fields = stat.read_text().rpartition(') ')[2].split()
    except OSError:
        continue
    ticks += int(fields[11]) + int(fields[12])
print(ticks / os.sysconf('SC_CLK_TCK'))
"""


def cpu_seconds(kubectl: Kubectl, engine: Engine) -> float:
    """User and system time of all processes of the engine's container until now. The look itself has ended by the next one."""
    return float(kubectl("exec", engine.pod, "-c", contract.CONTAINER_ENGINE, "--", "python3", "-c", _CPU_SECONDS))


@contextmanager
def running(kubectl: Kubectl, deployments: list[Json], *, by_router: bool = False) -> Iterator[list[Engine]]:
    """All of them, ready; they are deleted at the end."""
    made = [Deployed(kubectl, body["metadata"]["name"]) for body in deployments]
    try:
        for body in deployments:
            kubectl.apply(body)
        with ExitStack() as stack:
            engines = []
            for body, each in zip(deployments, made, strict=True):
                each.wait_ready(body["spec"].get("replicas", 1))
                pod = next(one["metadata"]["name"] for one in each.engines() if "deletionTimestamp" not in one["metadata"])
                at = access.base_url(kubectl, each.name) if by_router else access.pod_url(kubectl, pod)
                engines.append(Engine(each.name, stack.enter_context(at), pod))
            yield engines
    finally:
        for each in made:
            each.delete()


def without_middleware(name: str) -> Json:
    """vLLM alone, in the same pod: nothing of ours around its server."""
    arguments = [
        *("-m", "vllm.entrypoints.openai.api_server", "--model", f"{contract.MODEL_MOUNT_PATH}/{MODEL.name}"),
        *("--served-model-name", SERVED, "--port", str(contract.ENGINE_PORT), "--max-model-len", str(CONTEXT)),
        *("--kv-cache-memory-bytes", str(1 << 30), "--dtype", "auto", "--enforce-eager"),
    ]
    health = {"httpGet": {"path": contract.PATH_ENGINE_LIVE, "port": "http"}}
    container = {
        "name": contract.CONTAINER_ENGINE, "command": ["python3"], "args": arguments,
        "startupProbe": health, "readinessProbe": health,
    }  # fmt: skip
    return build_deployment(name, {}, podTemplate={"spec": {"containers": [container]}})
