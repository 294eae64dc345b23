"""The LLMDeployment that runs a candidate: only what differs from the defaults, ready to apply. Pure."""

import re
from typing import Any, Final

from tokenfleet import contract
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.optimize.candidate import Candidate

Json = dict[str, Any]

_GIB: Final = 1 << 30
_STORES: Final = ("hf://", "s3://", "gs://")
_CLAIM: Final = "pvc://"
_MODELS: Final = "pvc://models"
"""Where files of this machine would have to be put first."""


def deployment_of(
    candidate: Candidate, model: ModelFacts, *, source: str, revision: str | None = None, name: str | None = None
) -> Json:
    """source: as spec.model.source has it, or a path of this machine, which stands for a claim called `models`."""
    serving = candidate.serving
    shape = {"tensor": serving.tensor, "pipeline": serving.pipeline}
    parallelism = {key: count for key, count in shape.items() if count > 1}
    engine: Json = {
        **({"dtype": serving.dtype} if serving.dtype != "auto" else {}),
        **({"quantization": serving.quantization} if serving.quantization else {}),
        "maxModelLen": serving.max_model_len,
        **({"kvCache": {"dtype": serving.kv_dtype}} if serving.kv_dtype != "auto" else {}),
        "batching": {"maxNumSeqs": serving.max_num_seqs},
    }
    return {
        "apiVersion": contract.API_VERSION,
        "kind": contract.KIND,
        "metadata": {"name": name or name_of(source)},
        "spec": {
            "model": _model(model, source, revision),
            "accelerator": serving.accelerator.name,
            **({"parallelism": parallelism} if parallelism else {}),
            "engine": engine,
            "replicas": candidate.replicas,
        },
    }


def is_on_this_machine(source: str) -> bool:
    return not source.startswith((*_STORES, _CLAIM))


def name_of(source: str) -> str:
    """A name for the LLMDeployment, out of the last part of its source."""
    last = source.rstrip("/").rsplit("/", 1)[-1].lower().removesuffix(".json")
    words = re.sub(r"[^a-z0-9]+", "-", last).strip("-")
    begun = words if words[:1].isalpha() else f"model-{words}".rstrip("-")
    return begun[: contract.MAX_NAME_LENGTH].rstrip("-")


def _model(model: ModelFacts, source: str, revision: str | None) -> Json:
    if source.startswith(_CLAIM):
        return {"source": source}
    if is_on_this_machine(source):
        return {"source": f"{_MODELS}/{name_of(source)}"}
    pinned = {"revision": revision} if revision else {}
    return {"source": source, **pinned, "cache": {"size": f"{_room(model)}Gi"}}


def _room(model: ModelFacts) -> int:
    """GiB on a node's disk: the weights, and a tenth for all else."""
    return max(1, -(-model.weight_bytes * 11 // (10 * _GIB)))
