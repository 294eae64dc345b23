"""vLLM's flags that `extraArgs` may not set: the pod around the engine depends on their values, or a field speaks for them.

A flag that only tunes vLLM stays free, also where a field sets it: extraArgs come last and win. How vLLM abbreviates flags, and
which ones it has, is planning/engine_flags.py's knowledge; a rule of the API sees whole names alone.
"""

from collections.abc import Mapping
from types import MappingProxyType

OWNED_FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "api-key": "use router.auth",
        "api-server-count": "admission counts the requests of one server process",
        "config": "write the flags themselves",
        "data-parallel-size": "use replicas",
        "enable-lora": "use model.adapters",
        "enable-sleep-mode": "use engine.sleep",
        "grpc": "routers speak HTTP to engines",
        "headless": "an engine serves its own requests",
        "help": "an engine that prints its flags serves nobody",
        "host": "the pod's port is the only way in",
        "kv-offloading-size": "use engine.kvCache.cpuOffload",
        "lora-modules": "use model.adapters",
        "middleware": "Tokenfleet's admission is the only one",
        "model": "use model.source",
        "nnodes": "an engine is one pod; use parallelism within a node",
        "node-rank": "an engine is one pod; use parallelism within a node",
        "pipeline-parallel-size": "use parallelism.pipeline",
        "port": "Service, probes and routers rely on it",
        "prefill-context-parallel-size": "it takes GPUs that parallelism does not ask for",
        "root-path": "routers rely on the paths as they are",
        "served-model-name": "use model.servedName",
        "shutdown-timeout": "use drain.timeoutSeconds",
        "spec-method": "use engine.speculative",
        "spec-model": "use engine.speculative",
        "spec-tokens": "use engine.speculative",
        "speculative-config": "use engine.speculative",
        "tensor-parallel-size": "use parallelism.tensor",
        "uds": "the pod's port is the only way in",
    }
)
"""By name without dashes, why, or what to use instead. Likewise every `--ssl-*`."""

OWNED_SHORT_FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "asc": "api-server-count",
        "dp": "data-parallel-size",
        "h": "help",
        "n": "nnodes",
        "pcp": "prefill-context-parallel-size",
        "pp": "pipeline-parallel-size",
        "r": "node-rank",
        "sc": "speculative-config",
        "tp": "tensor-parallel-size",
    }
)
"""The same by their short names, which have one dash."""

SSL = "ssl-"
"""How the flags for TLS begin."""
SSL_REASON = "routers and probes speak plain HTTP to engines"

OWNED = f"^(--{SSL}|(--({'|'.join(OWNED_FLAGS)})|-({'|'.join(OWNED_SHORT_FLAGS)}))([=.]|$))"
"""A word that names one of them. vLLM takes `_` for `-`, and `--flag.key` for a key of a flag that is an object."""

TRANSFER_FLAG = "kv-transfer-config"
TRANSFER_REASON = "disaggregation and engine.kvCache.cpuOffload set it"
"""Free, but beside the fields that set it."""
TRANSFER = f"^--{TRANSFER_FLAG}([=.]|$)"
