"""What the two kinds of engine pods of a disaggregated LLMDeployment differ in, and what both need to move KV blocks.

A prefill pod reads prompts and keeps their KV cache until a decode pod has fetched it by NIXL, within 30 s. A decode pod that
cannot fetch it reads the prompt itself (`recompute`); left to its default, vLLM would fail the request. Where no RDMA is, NIXL
moves blocks by UCX over TCP, on ports of any number unless they are bounded, which a NetworkPolicy needs them to be.
"""

import json
from dataclasses import dataclass

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import engine_name, prefill_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kind of engine pods."""

    role: str
    kv_role: str

    def child(self, name: str) -> str:
        """The name of its children, of the LLMDeployment `name`."""
        return engine_name(name) if self is DECODE else prefill_name(name)

    def replicas(self, spec: LLMDeploymentSpec, wanted: int) -> int:
        """Of this part, where `wanted` engines answer: prompts are only read where there is somebody to go on with them."""
        if self is DECODE:
            return wanted
        return spec.disaggregation.prefill.replicas if spec.disaggregation is not None and wanted else 0


DECODE = Part(role=contract.ROLE_ENGINE, kv_role="kv_consumer")
"""Those that answer; all engines are, where nothing is disaggregated."""
PREFILL = Part(role=contract.ROLE_PREFILL, kv_role="kv_producer")


def transfer_flags(spec: LLMDeploymentSpec, part: Part) -> list[str]:
    """vLLM's flags for moving KV blocks; none where nothing is disaggregated."""
    if spec.disaggregation is None:
        return []
    transfer = {"kv_connector": "NixlConnector", "kv_role": part.kv_role, "kv_load_failure_policy": "recompute"}
    return ["--kv-transfer-config", json.dumps(transfer, separators=(",", ":"))]


def transfer_environment(spec: LLMDeploymentSpec) -> list[Json]:
    """`env` of the engine's container beside the user's."""
    if spec.disaggregation is None:
        return []
    first, last = contract.NIXL_DATA_PORTS
    address = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}
    return [
        {"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": address},
        {"name": "VLLM_NIXL_SIDE_CHANNEL_PORT", "value": str(contract.NIXL_PORT)},
        {"name": "UCX_TCP_PORT_RANGE", "value": f"{first}-{last}"},
    ]


def transfer_ports(spec: LLMDeploymentSpec) -> list[Json]:
    """`ports` of the engine's container beside its own."""
    return [] if spec.disaggregation is None else [{"name": "nixl", "containerPort": contract.NIXL_PORT, "protocol": "TCP"}]
