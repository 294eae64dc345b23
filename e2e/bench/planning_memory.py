"""How many tokens a KV cache is planned to hold, beside what real vLLM says as it starts, for a tiny model of each kind.

Each model is an LLMDeployment of the local cluster, one after the other. The plan is made as the controller makes it: of what
`tokenfleet-engine inspect` says of the files, in the engine's own pod, and of the spec. What vLLM found stands in its log.
"""

import json
import re
import sys
from collections.abc import Iterable
from typing import Any, Final

from e2e.bench.engines import NAMESPACE, SERVED, build_deployment, prepare, running
from e2e.cluster import images
from e2e.cluster.progress import step
from e2e.kubectl import Json, Kubectl
from e2e.model import model, objects
from tokenfleet import contract
from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.planning.accelerators import find_accelerator
from tokenfleet.planning.memory import estimate_memory
from tokenfleet.planning.model_facts import facts_of
from tokenfleet.planning.serving_of import serving_of

MODELS: Final = ("gqa", "mha", "mqa", "moe", "sliding", "interleaved", "latent")
"""Of e2e/model/kinds.py."""
LENGTH: Final = 4096
"""Tokens of a sequence: longer than the windows and a step together, so that windows show."""
_SAID: Final = re.compile(r"(?:GPU|CPU) KV cache size: ([\d,]+) tokens")


def measure_memory(kubectl: Kubectl | None = None, *, only: Iterable[str] = ()) -> list[Json]:
    """A row for each kind of model: {"model", "predicted", "measured", "error"}. error: (predicted - measured) / measured."""
    kubectl = kubectl or prepare()
    source = model.ensure(NAMESPACE, images=images.ensure(), recipe=objects.KINDS)
    rows = []
    for name in only or MODELS:
        with step(f"Starting vLLM with the model {name}"):
            rows.append(_measure(kubectl, name, source=f"{source}/{name}"))
    return rows


def _measure(kubectl: Kubectl, name: str, *, source: str) -> Json:
    body = build_deployment(f"kind-{name}", {"maxModelLen": LENGTH})
    body["spec"]["model"] = {"source": source, "servedName": SERVED}
    with running(kubectl, [body]) as (engine,):
        log = kubectl("logs", engine.pod, "-c", contract.CONTAINER_ENGINE)
        path = f"{contract.MODEL_MOUNT_PATH}/{source.removeprefix('pvc://').partition('/')[2]}"
        look = ("python3", "-m", "tokenfleet_engine.main", "inspect", path)
        looked = kubectl("exec", engine.pod, "-c", contract.CONTAINER_ENGINE, "--", *look)
    predicted, measured = _predicted(looked, body), _measured(log)
    return {"model": name, "predicted": predicted, "measured": measured, "error": (predicted - measured) / measured}


def _predicted(looked: str, body: Json) -> int:
    line = next(line for line in looked.splitlines() if line.startswith(contract.INSPECTION_PREFIX))
    document: dict[str, Any] = json.loads(line.removeprefix(contract.INSPECTION_PREFIX))["model"]
    spec = parse_spec(body["metadata"]["name"], body["spec"])
    return estimate_memory(facts_of(document), serving_of(spec, find_accelerator(spec.accelerator))).kv_tokens


def _measured(log: str) -> int:
    said = _SAID.findall(log)
    if not said:
        raise RuntimeError(f"vLLM's log does not say how large its KV cache is; its last lines:\n{log[-2000:]}")
    return int(said[-1].replace(",", ""))


if __name__ == "__main__":
    for row in measure_memory(only=sys.argv[1:]):
        print(f"{row['model']:12} predicted {row['predicted']:>9,}  measured {row['measured']:>9,}  error {row['error']:+.2%}")
