"""An inspection as tests need one: the document that it finds, its Job and its pod, and what the status keeps of it."""

import json
from dataclasses import replace
from typing import Any

from tests.controller.objects import CREATED, NAME, SETTINGS, ended, llm_deployment, pod, spec_of, terminated
from tokenfleet import contract
from tokenfleet.controller.inspections import subject
from tokenfleet.controller.inspections.reading import as_status
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.inspection import build_inspection
from tokenfleet.planning.accelerators import find_accelerator

SECONDS = 60
INSPECTING = replace(SETTINGS, inspect_seconds=SECONDS)

LLAMA: Json = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
"""config.json of Llama 3 8B, as far as planning reads it."""
_SHAPES = {
    "model.embed_tokens.weight": ([128256, 4096], 1),
    "lm_head.weight": ([128256, 4096], 1),
    "model.norm.weight": ([4096], 1),
    "model.layers.*.input_layernorm.weight": ([4096], 32),
    "model.layers.*.post_attention_layernorm.weight": ([4096], 32),
    "model.layers.*.self_attn.q_proj.weight": ([4096, 4096], 32),
    "model.layers.*.self_attn.k_proj.weight": ([1024, 4096], 32),
    "model.layers.*.self_attn.v_proj.weight": ([1024, 4096], 32),
    "model.layers.*.self_attn.o_proj.weight": ([4096, 4096], 32),
    "model.layers.*.mlp.gate_proj.weight": ([14336, 4096], 32),
    "model.layers.*.mlp.up_proj.weight": ([14336, 4096], 32),
    "model.layers.*.mlp.down_proj.weight": ([4096, 14336], 32),
}
DOCUMENT: Json = {
    "source": "hf://meta-llama/Meta-Llama-3-8B",
    "revision": None,
    "config": LLAMA,
    "tensors": [
        {"name": name, "dtype": "BF16", "shape": shape, "count": count} for name, (shape, count) in sorted(_SHAPES.items())
    ],
    "bytes": 16_060_522_496,
    "files": 4,
}
SAID = f"{contract.INSPECTION_PREFIX}{json.dumps({'model': DOCUMENT, 'draft': None})}\n"
"""The log of a pod that found that."""


def kept(deployment: Json, document: Json = DOCUMENT) -> Json:
    """status.model, once the inspection of this LLMDeployment is read."""
    return as_status(document, None, of=subject.digest_of(deployment))


def inspection_job(deployment: Json | None = None, *, ended_as: str = "", at: str = CREATED, **status: str) -> Json:
    """As the API server has it: under way, or with the condition `ended_as` (Complete, Failed)."""
    deployment = deployment or llm_deployment()
    spec = spec_of(deployment)
    accelerator = find_accelerator(spec.accelerator)
    body = build_inspection(deployment, spec, INSPECTING, accelerator, of=subject.digest_of(deployment))
    body["metadata"] |= {"uid": "job-uid", "creationTimestamp": at}
    conditions = [{"type": ended_as, "status": "True", "lastTransitionTime": at, **status}] if ended_as else []
    return {**body, "status": {"conditions": conditions}}


def inspection_pod(deployment: Json | None = None, *, name: str = f"{NAME}-inspect-1", **fields: Any) -> Json:
    """Its pod: running, unless `fields` (of objects.pod) say otherwise."""
    body = pod(name, role=contract.ROLE_INSPECTION, **fields)
    of = subject.digest_of(deployment or llm_deployment())
    body["metadata"] |= {"annotations": {contract.ANNOTATION_INSPECTS: of}}
    return body


def done_pod(deployment: Json | None = None, **fields: Any) -> Json:
    """One that said what it found."""
    status = ended(terminated(0, reason="Completed"), name=contract.CONTAINER_INSPECTION)
    return inspection_pod(deployment, phase="Succeeded", containers=(status,), **fields)
