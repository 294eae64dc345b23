"""Good and bad specs, and what a person reads of the bad ones: one table for both halves of the API's rules.

tests/api/test_specs.py runs it against pydantic, tests/integration/test_specs.py against a real API server, so that the two
cannot drift. A row is a sentence, a spec that says how it differs from the smallest good one, and words that both messages hold
(upper and lower case alike).
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from tokenfleet import contract

Json = dict[str, Any]

MINIMAL: Json = {"model": {"source": "pvc://models/llama-3-8b"}, "accelerator": "cpu"}
ROUTER: Json = {}
"""The smallest LLMRouter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    sentence: str
    spec: Json
    words: tuple[str, ...] = field(default=())
    """What both messages hold; none: the spec is good."""
    name: str = "llama-3-8b"
    kind: str = contract.KIND


def good(sentence: str, *, name: str = "llama-3-8b", **fields: Any) -> Row:
    return Row(sentence=sentence, spec={**MINIMAL, **fields}, name=name)


def bad(sentence: str, *words: str, name: str = "llama-3-8b", **fields: Any) -> Row:
    assert words, "a bad spec needs words that its message holds"
    return Row(sentence=sentence, spec={**MINIMAL, **fields}, words=words, name=name)


def bad_for_us(sentence: str, *words: str, **fields: Any) -> Row:
    """What only Python can tell: the API server takes it, and SpecValid says what is wrong."""
    return Row(sentence=sentence, spec={**MINIMAL, **fields}, words=words)


def good_router(sentence: str, **fields: Any) -> Row:
    """Of an LLMRouter."""
    return Row(sentence=sentence, spec={**ROUTER, **fields}, kind=contract.ROUTER_KIND)


def bad_router(sentence: str, *words: str, **fields: Any) -> Row:
    """Of an LLMRouter."""
    assert words, "a bad spec needs words that its message holds"
    return Row(sentence=sentence, spec={**ROUTER, **fields}, words=words, kind=contract.ROUTER_KIND)


def _source(text: str) -> Json:
    return {"model": {"source": text}}


def _adapters(*adapters: Json) -> Json:
    return {"model": {**_HUB, "adapters": list(adapters)}}


def _speculative(**fields: Any) -> Json:
    return {"engine": {"speculative": fields}}


_HUB: Json = {"source": "hf://meta-llama/Llama-3.1-8B"}
_DIGEST = "0123456789abcdef" * 4
_NVIDIA: Json = {"accelerator": "nvidia-h100-80gb"}

GOOD = [
    good("the smallest spec"),
    good("a source that is a whole claim", **_source("pvc://models")),
    good("a source with dots and underscores in its path", **_source("pvc://models.v1/org/Llama_3.1-8B..instruct")),
    good("a model of a hub", **_source("hf://meta-llama/Llama-3.1-8B-Instruct")),
    good("a commit of a hub", model={**_HUB, "revision": "0e9e39f249a16976918f6564b8830bc894c89659"}),
    good("a branch of a hub with a slash", model={**_HUB, "revision": "refs/pr/12"}),
    good(
        "a folder of a bucket, by its digest",
        model={"source": "s3://my.models/org/Llama_3=8B", "revision": f"sha256:{_DIGEST}"},
    ),
    good("a whole bucket", **_source("gs://my_models")),
    good(
        "a private model in a claim that others fill too",
        model={**_HUB, "credentials": {"secretName": "hf-token"}, "cache": {"persistentVolumeClaim": "models"}},
    ),
    good("a model on the node's disk", model={**_HUB, "cache": {"size": "1.5Ti"}}),
    good(
        "a claim's model with adapters from elsewhere, and room for them",
        model={
            "source": "pvc://models/llama",
            "servedName": "llama",
            "credentials": {"secretName": "adapters"},
            "cache": {"size": "500M"},
            "adapters": [
                {"name": "llama-3-8b", "source": "s3://adapters/sql"},
                {"name": "org/summaries:v2", "source": "hf://org/summaries", "revision": "v2"},
                {"name": "c", "source": "pvc://adapters/c"},
            ],
        },
    ),
    good("the most adapters", **_adapters(*({"name": f"a{n}", "source": "hf://o/a"} for n in range(32)))),
    good(
        "a claim's model with a draft from elsewhere",
        model={"source": "pvc://models/llama", "cache": {"size": "2Gi"}},
        **_speculative(method="draft", draftModel="hf://org/small"),
    ),
    good("a served name like that of a hub", model={"source": "pvc://models/x", "servedName": "meta-llama/Llama-3.1-8B:fp8"}),
    good("the longest source", **_source("pvc://models/" + "x" * 1011)),
    good("the longest name", name="a" * 40),
    good("a name with a digit at its end", name="llama-3"),
    good("an accelerator that no table knows is the controller's to refuse", accelerator="nvidia-z9000"),
    good("eight GPUs in two groups", parallelism={"tensor": 4, "pipeline": 2}, **_NVIDIA),
    good("no replica at all", replicas=0),
    good("the most replicas", replicas=1000),
    good("a utilization of 0.9", engine={"gpuMemoryUtilization": "0.9"}),
    good("a utilization of 0.05", engine={"gpuMemoryUtilization": "0.05"}),
    good("a utilization of all", engine={"gpuMemoryUtilization": "1.00"}),
    good(
        "whole prompts in one step that is large enough",
        engine={"maxModelLen": 4096, "batching": {"chunkedPrefill": False, "maxNumBatchedTokens": 4096}},
    ),
    good("whole prompts, with a length of step that vLLM chooses", engine={"batching": {"chunkedPrefill": False}}),
    good("as many tokens a step as sequences", engine={"batching": {"maxNumSeqs": 8, "maxNumBatchedTokens": 8}}),
    good(
        "a quantized model with a quantized KV cache, a part of it in the node's memory",
        engine={"quantization": "fp8", "kvCache": {"dtype": "fp8", "blockSize": 16, "cpuOffload": "16Gi"}},
        **_NVIDIA,
    ),
    good(
        "a quantized model on the CPU",
        engine={"quantization": "int8_per_channel_weight_only", "kvCache": {"dtype": "fp8_e5m2", "blockSize": 64}},
    ),
    good("guesses out of the prompt", **_speculative(method="ngram", numTokens=16, promptLookup={"min": 2, "max": 2})),
    good(
        "guesses of a small model",
        **_speculative(method="draft", draftModel="hf://org/small", draftRevision="main", numTokens=1),
    ),
    good(
        "guesses of a head, on GPUs that share layers",
        parallelism={"tensor": 8},
        **_speculative(method="eagle3", draftModel="pvc://models/head"),
        **_NVIDIA,
    ),
    good("guesses of a head behind prompts on pods of their own", disaggregation={}, **_speculative(method="ngram")),
    good("an engine that may sleep", engine={"sleep": True}, **_NVIDIA),
    good("bounds of an engine", engine={"admission": {"maxInFlight": 1, "maxWaiting": 1, "maxQueueSeconds": 3600}}),
    good("an environment", engine={"env": {"HTTPS_PROXY": "http://proxy:3128", "VLLM_LOGGING_LEVEL": "DEBUG", "EMPTY": ""}}),
    good(
        "resources of a replica",
        engine={"resources": {"requests": {"cpu": "500m", "memory": "1.5Gi"}, "limits": {"memory": "64Gi", "rdma/hca": "1"}}},
    ),
    good(
        "a simulator of a GPU's engine",
        accelerator="simulated",
        model={**_HUB, "revision": "main", "cache": {"size": "40Gi"}},
        parallelism={"tensor": 2, "pipeline": 2},
        engine={"quantization": "fp8", "kvCache": {"cpuOffload": "1Gi"}, "maxModelLen": 4096},
    ),
    good("flags of vLLM", engine={"extraArgs": ["--enforce-eager", "--seed=7", "--max-logprobs", "5"]}),
    good(
        "flags that only begin like Tokenfleet's",
        engine={"extraArgs": ["--model-impl", "vllm", "--hostile=1", "--tokenizer", "--configure"]},
    ),
    good("a value that looks like a flag's name", engine={"extraArgs": ["--tokenizer", "model"]}),
    good("prompts on a pod of their own", disaggregation={}),
    good("prompts on many pods", disaggregation={"prefill": {"replicas": 1000}}, parallelism={"tensor": 8}, **_NVIDIA),
    good("a transfer of one's own, where nothing is disaggregated", engine={"extraArgs": ["--kv-transfer-config", "{}"]}),
    good("a rollout without a spare GPU", rollout={"maxSurge": 0, "maxUnavailable": 1}),
    good("the longest drain", drain={"timeoutSeconds": 86400}),
    good(
        "a podTemplate with labels, an environment and a null",
        podTemplate={
            "metadata": {"labels": {"team": "search"}, "annotations": {"tokenfleet.dev.example/x": "y"}},
            "spec": {
                "containers": [{"name": "engine", "env": [{"name": "A", "value": "b"}], "livenessProbe": None}],
                "priorityClassName": "high",
            },
        },
    ),
    # --- router ------------------------------------------------------------------------------------------------------
    good(
        "a router with all that there is",
        router={
            "replicas": 4,
            "policy": "SessionAffinity",
            "sessionHeader": "x-user",
            "maxInFlight": 64,
            "maxConnectionsPerPeer": 100,
            "queue": {"maxDepth": 0, "timeoutSeconds": 5},
            "shedding": {"startAt": "0.5", "stopAt": "0.95", "ttftMilliseconds": 800},
            "auth": {"keysSecret": "team-keys"},
            "limits": {"requestsPerMinute": 600, "tokensPerMinute": 200000},
            "bounds": {
                "maxBodyBytes": 1048576,
                "maxChoices": 1,
                "maxTokens": 4096,
                "maxLogprobs": 0,
                "mediaUrls": "Allow",
                "promptEmbeds": "Allow",
            },
            "extraPaths": ["/v1/rerank", "/score"],
            "tls": {"secretName": "llama.tls"},
            "redis": {"urlSecret": "redis-url"},
            "async": {"enabled": True, "visibilitySeconds": 60, "maxTries": 1, "resultSeconds": 60, "maxPending": 1},
            "accessLog": "All",
            "tracing": {"endpoint": "http://otel-collector.observability:4318", "sampleRatio": "0.1"},
        },
    ),
    good("a session header that is left to its default", router={"policy": "SessionAffinity"}),
    good("a shared router", routerRef={"name": "shared"}),
    good("a shared router, with a router's defaults spelled out", routerRef={"name": "shared"}, router={"replicas": 2}),
    # --- LLMRouter ---------------------------------------------------------------------------------------------------
    good_router("the smallest LLMRouter"),
    good_router(
        "a canary with a fallback",
        routes=[
            {
                "model": "chat",
                "targets": [{"deployment": "llama", "weight": 90}, {"deployment": "llama-next", "weight": 10}],
                "fallbacks": ["small", "org/tiny:latest"],
            }
        ],
    ),
    good_router(
        "a target on standby", routes=[{"model": "chat", "targets": [{"deployment": "a"}, {"deployment": "b", "weight": 0}]}]
    ),
    good_router(
        "fallbacks alone", routes=[{"model": "chat", "fallbacks": ["small"]}, {"model": "small", "fallbacks": ["chat"]}]
    ),
    good_router("what a router can do, shared", auth={"keysSecret": "keys"}, replicas=3, drain={"timeoutSeconds": 30}),
]

_AUTO: Json = {"maxReplicas": 4}

GOOD += [
    good("autoscaling, and no more said than has to be", autoscaling=_AUTO),
    good(
        "all that autoscaling takes",
        autoscaling={
            "minReplicas": 0,
            "maxReplicas": 8,
            "queueDepth": 3,
            "concurrency": 40,
            "scaleDown": {"stabilizationSeconds": 60},
            "scaleToZeroAfterSeconds": 600,
            "schedules": [
                {"cron": "0 8 * * 1-5", "timezone": "Europe/Paris", "minReplicas": 4},
                {"cron": "30 19 * * *", "minReplicas": 0, "maxReplicas": 2},
            ],
        },
        slo={"ttftMilliseconds": 500, "itlMilliseconds": 50},
    ),
    good("an autoscaler of Kubernetes", autoscaling={**_AUTO, "actuator": "HPA", "concurrency": 40}),
    good("KEDA, to zero", autoscaling={**_AUTO, "actuator": "KEDA", "minReplicas": 0, "scaleToZeroAfterSeconds": 60}),
    good("suspended", suspend=True),
    good("streams that end with their engine", continueStreams=False),
    good(
        "a canary",
        rollout={"canary": {"weights": [5, 25, 100], "pauseSeconds": 30, "maxErrorRate": "0.05", "maxTtftMilliseconds": 900}},
    ),
]

BAD = [
    # --- what is missing, or has another type -----------------------------------------------------------------------
    Row(sentence="no model", spec={"accelerator": "cpu"}, words=("spec.model: required",)),
    Row(sentence="no accelerator", spec={"model": MINIMAL["model"]}, words=("spec.accelerator: required",)),
    bad("no source", "spec.model.source: required", model={}),
    bad("a field that is not there", "spec.replica", replica=2),
    bad("a field of a part that is not there", "spec.engine.maxModelLength", engine={"maxModelLength": 1}),
    bad("replicas in quotes", "spec.replicas", "integer", replicas="2"),
    bad("half a replica", "spec.replicas", "integer", replicas=1.5),
    bad("a utilization without quotes", "spec.engine.gpuMemoryUtilization", "string", engine={"gpuMemoryUtilization": 0.9}),
    bad("yes for a boolean", "spec.engine.prefixCaching", "boolean", engine={"prefixCaching": "yes"}),
    bad("a list for an object", "spec.router", router=[]),
    bad("a word for a list", "spec.engine.extraArgs", engine={"extraArgs": "--enforce-eager"}),
    # --- names -------------------------------------------------------------------------------------------------------
    bad("a name that is too long", "at most 40 characters", name="a" * 41),
    bad("a name that begins with a digit", "must begin with a letter", name="3-llama"),
    bad("a name with a dot", "hold only a-z, 0-9 and '-'", name="llama.3"),
    # --- model -------------------------------------------------------------------------------------------------------
    bad("a bare path", "spec.model", "source must be hf://ORG/NAME", **_source("/models/llama")),
    bad("another scheme", "spec.model", "source must be hf://ORG/NAME", **_source("https://meta-llama/Llama-3.1-8B")),
    bad("a model of a hub without an organisation", "source must be hf://ORG/NAME", **_source("hf://gpt2")),
    bad("a hub's name of three parts", "source must be hf://ORG/NAME", **_source("hf://meta-llama/Llama/8B")),
    bad("a revision in the source", "source must be hf://ORG/NAME", **_source("hf://meta-llama/Llama-3.1-8B@main")),
    bad("a hidden model of a hub", "source must be hf://ORG/NAME", **_source("hf://org/.hidden")),
    bad("a bucket in capitals", "source must be hf://ORG/NAME", **_source("s3://Models/x")),
    bad("no bucket", "source must be hf://ORG/NAME", **_source("gs:///x")),
    bad("a folder of a bucket with a slash at its end", "source must be hf://ORG/NAME", **_source("s3://models/x/")),
    bad("a way out of a folder", "must not contain '.' or '..' segments", **_source("gs://models/a/../b")),
    bad("a revision of a claim", "spec.model", "revision must be a commit", model={"source": "pvc://m/x", "revision": "main"}),
    bad("a branch of a bucket", "revision must be a commit", model={"source": "s3://m1/x", "revision": "main"}),
    bad("half a digest", "revision must be a commit", model={"source": "s3://m1/x", "revision": "sha256:" + "a" * 63}),
    bad(
        "a digest of a hub's model", "revision must be a commit", model={"source": "hf://o/m", "revision": f"sha256:{_DIGEST}"}
    ),
    bad("an empty revision", "spec.model.revision", model={"source": "hf://o/m", "revision": ""}),
    bad("a revision with two parts", "revision must be a commit", model={"source": "hf://o/m", "revision": "main@x"}),
    bad("credentials without a Secret", "spec.model.credentials.secretName: required", model={**_HUB, "credentials": {}}),
    bad("a cache of no kind", "spec.model.cache", "cache must have either size", model={**_HUB, "cache": {}}),
    bad(
        "a cache of two kinds",
        "cache must have either size",
        model={**_HUB, "cache": {"size": "1Gi", "persistentVolumeClaim": "models"}},
    ),
    bad("a cache without room", "spec.model.cache.size", model={**_HUB, "cache": {"size": "0Gi"}}),
    bad("a cache of a size that is none", "spec.model.cache.size", model={**_HUB, "cache": {"size": "40 GB"}}),
    bad("a cache of a number", "spec.model.cache.size", "string", model={**_HUB, "cache": {"size": 1024}}),
    bad(
        "a cache where nothing is fetched",
        "model.cache and model.credentials are for what is fetched",
        model={"source": "pvc://models/x", "cache": {"size": "40Gi"}},
    ),
    bad(
        "credentials where nothing is fetched",
        "model.cache and model.credentials are for what is fetched",
        model={"source": "pvc://models/x", "credentials": {"secretName": "hf"}},
        engine={"speculative": {"method": "ngram"}},
    ),
    bad(
        "an adapter without a name",
        "spec.model.adapters[0].name: required",
        model={**_HUB, "adapters": [{"source": "hf://o/a"}]},
    ),
    bad("an adapter from nowhere", "source must be hf://ORG/NAME", **_adapters({"name": "a", "source": "/a"})),
    bad(
        "a claim's adapter with a revision",
        "revision must be a commit",
        **_adapters({"name": "a", "source": "pvc://m/a", "revision": "main"}),
    ),
    bad(
        "an adapter whose name parts a list", "spec.model.adapters[0].name", **_adapters({"name": "a,b", "source": "hf://o/a"})
    ),
    bad(
        "an adapter whose name parts a pair", "spec.model.adapters[0].name", **_adapters({"name": "a=b", "source": "hf://o/a"})
    ),
    bad("an adapter twice", "adapters", **_adapters({"name": "a", "source": "hf://o/a"}, {"name": "a", "source": "hf://o/b"})),
    bad(
        "an adapter that is called like the model",
        "adapters must not have the servedName",
        model={**_HUB, "servedName": "chat", "adapters": [{"name": "chat", "source": "hf://o/a"}]},
    ),
    bad(
        "an adapter that is called like the LLMDeployment",
        "spec.model.adapters must not have the LLMDeployment's name",
        **_adapters({"name": "llama-3-8b", "source": "hf://o/a"}),
    ),
    bad("too many adapters", "32", **_adapters(*({"name": f"a{n}", "source": "hf://o/a"} for n in range(33)))),
    bad("no claim", "source must be hf://ORG/NAME", **_source("pvc://")),
    bad("a claim in capitals", "source must be hf://ORG/NAME", **_source("pvc://Models/x")),
    bad("a slash at the end", "source must be hf://ORG/NAME", **_source("pvc://models/")),
    bad("two slashes in a row", "source must be hf://ORG/NAME", **_source("pvc://models//x")),
    bad("a space in the path", "source must be hf://ORG/NAME", **_source("pvc://models/a b")),
    bad("a line break at the end", "source must be hf://ORG/NAME", **_source("pvc://models/x\n")),
    bad("a way out of the claim", "must not contain '.' or '..' segments", **_source("pvc://models/../etc")),
    bad("a way out at the end", "must not contain '.' or '..' segments", **_source("pvc://models/x/..")),
    bad("a segment that says nothing", "must not contain '.' or '..' segments", **_source("pvc://models/./x")),
    bad("a source that is too long", "spec.model.source", "1024", **_source("pvc://models/" + "x" * 1012)),
    bad("an empty served name", "spec.model.servedName", model={"source": "pvc://models/x", "servedName": ""}),
    bad("a served name with a space", "spec.model.servedName", model={"source": "pvc://models/x", "servedName": "a b"}),
    bad("a served name with a line break", "spec.model.servedName", model={"source": "pvc://models/x", "servedName": "a\n"}),
    # --- accelerator and parallelism ---------------------------------------------------------------------------------
    bad("an accelerator in capitals", "spec.accelerator", accelerator="NVIDIA-H100"),
    bad("an empty accelerator", "spec.accelerator", accelerator=""),
    bad("tensor parallelism on the CPU", "parallelism needs GPUs", parallelism={"tensor": 2}),
    bad("pipeline parallelism on the CPU", "parallelism needs GPUs", parallelism={"pipeline": 2}),
    bad("no GPU", "spec.parallelism.tensor", "greater than or equal to 1", parallelism={"tensor": 0}, **_NVIDIA),
    bad("too many GPUs", "spec.parallelism.pipeline", "less than or equal to 64", parallelism={"pipeline": 65}, **_NVIDIA),
    # --- engine ------------------------------------------------------------------------------------------------------
    bad("a type that vLLM does not know", "spec.engine.dtype", "bfloat16", engine={"dtype": "bf16"}),
    bad("a quantization of yore", "spec.engine.quantization", engine={"quantization": "fbgemm_fp8"}, **_NVIDIA),
    bad("a quantization for GPUs", "engine.quantization on accelerator cpu must be one of awq", engine={"quantization": "fp8"}),
    bad("a KV cache of a type for GPUs", "engine.kvCache.dtype on accelerator cpu", engine={"kvCache": {"dtype": "nvfp4"}}),
    bad("a KV cache of no known type", "spec.engine.kvCache.dtype", "auto", engine={"kvCache": {"dtype": "fp4"}}),
    bad(
        "blocks for GPUs",
        "engine.kvCache.blockSize on accelerator cpu must be a multiple",
        engine={"kvCache": {"blockSize": 16}},
    ),
    bad("blocks of an odd size", "spec.engine.kvCache.blockSize", engine={"kvCache": {"blockSize": 17}}, **_NVIDIA),
    bad("a KV cache beside the CPU's", "engine.kvCache.cpuOffload needs a GPU", engine={"kvCache": {"cpuOffload": "1Gi"}}),
    bad("a KV cache of nothing", "spec.engine.kvCache.cpuOffload", engine={"kvCache": {"cpuOffload": "0"}}, **_NVIDIA),
    bad(
        "blocks that are put aside and never found again",
        "spec.engine",
        "kvCache.cpuOffload needs prefixCaching",
        engine={"kvCache": {"cpuOffload": "1Gi"}, "prefixCaching": False},
        **_NVIDIA,
    ),
    bad(
        "blocks that go to two places",
        "disaggregation and engine.kvCache.cpuOffload exclude each other",
        disaggregation={},
        engine={"kvCache": {"cpuOffload": "1Gi"}},
        **_NVIDIA,
    ),
    bad(
        "an offload with a transfer of one's own",
        "extraArgs must not set --kv-transfer-config",
        engine={"kvCache": {"cpuOffload": "1Gi"}, "extraArgs": ["--kv-transfer-config.kv_connector", "LMCacheConnectorV1"]},
        **_NVIDIA,
    ),
    bad("sleep on the CPU", "engine.sleep needs a GPU: vLLM sleeps on GPUs only", engine={"sleep": True}),
    bad("a simulator that sleeps", "vLLM sleeps on GPUs only", accelerator="simulated", engine={"sleep": True}),
    bad("a simulator in two parts", "disaggregation needs real engines", accelerator="simulated", disaggregation={}),
    bad(
        "sleep where others fetch blocks",
        "disaggregation and engine.sleep exclude each other",
        disaggregation={},
        engine={"sleep": True},
        **_NVIDIA,
    ),
    bad("guesses of nobody", "spec.engine.speculative.method: required", **_speculative(numTokens=3)),
    bad("guesses by another method", "spec.engine.speculative.method", "eagle3", **_speculative(method="medusa")),
    bad("a draft without files", "spec.engine.speculative", "draftModel must say where", **_speculative(method="draft")),
    bad("a head without files", "draftModel must say where", **_speculative(method="eagle3")),
    bad(
        "a draft that nobody asks",
        "draftModel and draftRevision must be absent with the method ngram",
        **_speculative(method="ngram", draftModel="hf://org/small"),
    ),
    bad(
        "a draft's revision that nobody asks",
        "draftModel and draftRevision must be absent with the method ngram",
        **_speculative(method="ngram", draftRevision="main"),
    ),
    bad("a draft from nowhere", "draftModel must be hf://ORG/NAME", **_speculative(method="draft", draftModel="small")),
    bad(
        "a claim's draft with a revision",
        "draftRevision must be a commit",
        **_speculative(method="draft", draftModel="pvc://models/small", draftRevision="main"),
    ),
    bad(
        "a draft that looks into the prompt",
        "promptLookup must be absent",
        **_speculative(method="draft", draftModel="hf://org/small", promptLookup={"min": 1, "max": 2}),
    ),
    bad(
        "n-grams from long to short",
        "spec.engine.speculative.promptLookup",
        "min must not be above max",
        **_speculative(method="ngram", promptLookup={"min": 3, "max": 2}),
    ),
    bad(
        "n-grams without an end",
        "spec.engine.speculative.promptLookup.max: required",
        **_speculative(method="ngram", promptLookup={"min": 3}),
    ),
    bad(
        "no guess",
        "spec.engine.speculative.numTokens",
        "greater than or equal to 1",
        **_speculative(method="ngram", numTokens=0),
    ),
    bad("too many guesses", "spec.engine.speculative.numTokens", "16", **_speculative(method="ngram", numTokens=17)),
    bad(
        "guesses in a pipeline",
        "engine.speculative needs parallelism.pipeline 1",
        parallelism={"pipeline": 2},
        **_speculative(method="ngram"),
        **_NVIDIA,
    ),
    bad("an engine that takes nothing", "spec.engine.admission.maxInFlight", engine={"admission": {"maxInFlight": 0}}),
    bad("an engine that lets none wait", "spec.engine.admission.maxWaiting", engine={"admission": {"maxWaiting": 0}}),
    bad("an engine without patience", "spec.engine.admission.maxQueueSeconds", engine={"admission": {"maxQueueSeconds": 0}}),
    *(
        bad(f"the variable {name}", "spec.engine", "env must not set", engine={"env": {"A": "b", name: "x"}})
        for name in ("PYTHONPATH", "VLLM_API_KEY", "TOKENFLEET_DRAIN_SECONDS", "VLLM_NIXL_SIDE_CHANNEL_HOST")
    ),
    *(
        bad(f"a variable of the name {name!r}", "spec.engine", "env must have names of letters", engine={"env": {name: "x"}})
        for name in ("", "1A", "A=B", "A B", "A\n", "é")
    ),
    bad("a variable that is a number", "spec.engine.env.A", "string", engine={"env": {"A": 1}}),
    bad("a variable from elsewhere", "spec.engine.env.A", engine={"env": {"A": {"secretKeyRef": {"name": "x"}}}}),
    bad("too many variables", "spec.engine.env", "64", engine={"env": {f"A{n}": "" for n in range(65)}}),
    bad(
        "GPUs as a resource",
        "spec.engine.resources",
        "resources must not name nvidia.com/gpu",
        engine={"resources": {"limits": {"nvidia.com/gpu": "1"}}},
    ),
    bad("memory by feel", "spec.engine.resources.requests.memory", engine={"resources": {"requests": {"memory": "much"}}}),
    bad("a number of CPUs without quotes", "spec.engine.resources.limits.cpu", engine={"resources": {"limits": {"cpu": 8}}}),
    bad("no tokens", "spec.engine.maxModelLen", "greater than or equal to 1", engine={"maxModelLen": 0}),
    bad("a utilization of nothing", "spec.engine.gpuMemoryUtilization", engine={"gpuMemoryUtilization": "0"}),
    bad("a utilization of 0.00", "spec.engine.gpuMemoryUtilization", engine={"gpuMemoryUtilization": "0.00"}),
    bad("a utilization of more than all", "spec.engine.gpuMemoryUtilization", engine={"gpuMemoryUtilization": "1.01"}),
    bad("a utilization in percent", "spec.engine.gpuMemoryUtilization", engine={"gpuMemoryUtilization": "90%"}),
    bad(
        "more sequences than tokens a step",
        "spec.engine.batching",
        "maxNumBatchedTokens must be at least maxNumSeqs",
        engine={"batching": {"maxNumSeqs": 9, "maxNumBatchedTokens": 8}},
    ),
    bad(
        "whole prompts that do not fit into a step",
        "spec.engine",
        "without chunkedPrefill a whole prompt is one step",
        engine={"maxModelLen": 4097, "batching": {"chunkedPrefill": False, "maxNumBatchedTokens": 4096}},
    ),
    *(
        bad(
            f"the flag {flag.splitlines()[0]}",
            "spec.engine",
            "extraArgs must not set",
            engine={"extraArgs": ["--seed", "1", flag]},
        )
        for flag in (
            "--port",
            "--port=9000",
            "--host=0.0.0.0\n",
            "--served_model_name=x",
            "--ssl-keyfile",
            "--ssl_certfile=/tmp/x",
            "--tensor-parallel-size=2",
            "-tp=2",
            "-pp",
            "--middleware=evil.Middleware",
            "--shutdown-timeout",
            "--api-key=secret",
            "--uds",
            "--api-server-count=4",
            "--root-path=/x",
            "--config=/models/engine.yaml",
            "--data-parallel-size=2",
            "-dp",
            "--headless",
            "--speculative-config.method",
            "-sc",
            "--spec_model=x",
            "--enable-lora",
            "--lora-modules",
            "--enable-sleep-mode",
            "--kv-offloading-size=4",
            "--grpc",
            "--nnodes=2",
            "-asc=2",
        )
    ),
    bad("an empty flag", "spec.engine.extraArgs[0]", engine={"extraArgs": [""]}),
    bad("too many flags", "spec.engine.extraArgs", "64", engine={"extraArgs": ["--seed=1"] * 65}),
    # --- disaggregation ----------------------------------------------------------------------------------------------
    bad(
        "no pod for prompts",
        "spec.disaggregation.prefill.replicas",
        "greater than or equal to 1",
        disaggregation={"prefill": {"replicas": 0}},
    ),
    bad("a part that only answers", "spec.disaggregation.decode", disaggregation={"decode": {"replicas": 1}}),
    bad(
        "disaggregation with a pipeline",
        "disaggregation needs parallelism.pipeline 1",
        disaggregation={},
        parallelism={"pipeline": 2},
        **_NVIDIA,
    ),
    bad(
        "disaggregation with a transfer of one's own",
        "extraArgs must not set --kv-transfer-config",
        disaggregation={},
        engine={"extraArgs": ["--kv_transfer_config={}"]},
    ),
    # --- replicas, router, drain, rollout ----------------------------------------------------------------------------
    bad("fewer replicas than none", "spec.replicas", "greater than or equal to 0", replicas=-1),
    bad("too many replicas", "spec.replicas", "less than or equal to 1000", replicas=1001),
    bad("no router", "spec.router.replicas", "greater than or equal to 1", router={"replicas": 0}),
    bad("no time to drain", "spec.drain.timeoutSeconds", "greater than or equal to 1", drain={"timeoutSeconds": 0}),
    bad("more than a day to drain", "spec.drain.timeoutSeconds", "86400", drain={"timeoutSeconds": 86401}),
    bad(
        "a rollout that cannot begin",
        "spec.rollout",
        "maxSurge and maxUnavailable cannot both be 0",
        rollout={"maxSurge": 0, "maxUnavailable": 0},
    ),
    bad("a surge in percent", "spec.rollout.maxSurge", "integer", rollout={"maxSurge": "25%"}),
    # --- podTemplate -------------------------------------------------------------------------------------------------
    bad(
        "a label that routers go by",
        "podTemplate must not set labels of tokenfleet.dev",
        podTemplate={"metadata": {"labels": {"tokenfleet.dev/role": "other"}}},
    ),
    bad(
        "the annotation that marks a drain",
        "podTemplate must not set annotations of tokenfleet.dev",
        podTemplate={"metadata": {"annotations": {"tokenfleet.dev/draining": "now"}}},
    ),
    bad("a label that is a number", "spec.podTemplate.metadata.labels.tier", podTemplate={"metadata": {"labels": {"tier": 1}}}),
    bad("a whole pod", "spec.podTemplate.containers", podTemplate={"containers": []}),
    # --- router ------------------------------------------------------------------------------------------------------
    bad("a policy that nobody knows", "spec.router.policy", "LeastConnections", router={"policy": "RoundRobin"}),
    bad(
        "a session header that nobody reads",
        "spec.router",
        "sessionHeader needs the policy SessionAffinity",
        router={"sessionHeader": "x-user"},
    ),
    bad(
        "a session header in capitals",
        "spec.router.sessionHeader",
        router={"policy": "SessionAffinity", "sessionHeader": "X-User"},
    ),
    bad("nothing in flight", "spec.router.maxInFlight", "greater than or equal to 1", router={"maxInFlight": 0}),
    bad("a queue of less than nothing", "spec.router.queue.maxDepth", router={"queue": {"maxDepth": -1}}),
    bad("no time to wait", "spec.router.queue.timeoutSeconds", router={"queue": {"timeoutSeconds": 0}}),
    bad(
        "shedding that begins where it ends",
        "spec.router.shedding",
        "startAt must be below stopAt",
        router={"shedding": {"startAt": "0.8", "stopAt": "0.80"}},
    ),
    bad("shedding from nothing on", "spec.router.shedding.startAt", router={"shedding": {"startAt": "0"}}),
    bad("shedding above all", "spec.router.shedding.stopAt", router={"shedding": {"stopAt": "1.5"}}),
    bad("shedding without quotes", "spec.router.shedding.startAt", "string", router={"shedding": {"startAt": 0.5}}),
    bad("keys without a Secret", "spec.router.auth.keysSecret: required", router={"auth": {}}),
    bad("a Secret in capitals", "spec.router.tls.secretName", router={"tls": {"secretName": "TLS"}}),
    bad("a Secret with a path", "spec.router.redis.urlSecret", router={"redis": {"urlSecret": "../redis"}}),
    bad("no request a minute", "spec.router.limits.requestsPerMinute", router={"limits": {"requestsPerMinute": 0}}),
    bad("a body of nothing", "spec.router.bounds.maxBodyBytes", "1024", router={"bounds": {"maxBodyBytes": 1}}),
    bad("a log of some", "spec.router.accessLog", "Errors", router={"accessLog": "Some"}),
    bad("a collector without a scheme", "spec.router.tracing.endpoint", router={"tracing": {"endpoint": "otel:4318"}}),
    bad(
        "spans of more than all",
        "spec.router.tracing.sampleRatio",
        router={"tracing": {"endpoint": "http://o", "sampleRatio": "2"}},
    ),
    bad("media perhaps", "spec.router.bounds.mediaUrls", router={"bounds": {"mediaUrls": "Maybe"}}),
    bad("a path that may not pass", "spec.router.extraPaths[0]", router={"extraPaths": ["/invocations"]}),
    bad(
        "a path twice",
        "spec.router",
        "extraPaths must not name a path twice",
        router={"extraPaths": ["/score", "/rerank", "/score"]},
    ),
    bad("a durable queue without Redis", "spec.router", "async needs redis", router={"async": {"enabled": True}}),
    bad("a result that is gone at once", "spec.router.async.resultSeconds", router={"async": {"resultSeconds": 1}}),
    bad("a shared router without a name", "spec.routerRef.name: required", routerRef={}),
    bad("a shared router in another namespace", "spec.routerRef.name", routerRef={"name": "other/shared"}),
    *(
        bad(
            f"a shared router, and of its own {sentence}",
            "router and routerRef exclude each other",
            routerRef={"name": "shared"},
            router=router,
        )
        for sentence, router in {
            "three replicas": {"replicas": 3},
            "a limit in flight": {"maxInFlight": 7},
            "a longer queue": {"queue": {"maxDepth": 1024}},
            "keys": {"auth": {"keysSecret": "keys"}},
            "a path": {"extraPaths": ["/score"]},
            "patience with results": {"async": {"resultSeconds": 60}},
        }.items()
    ),
    # --- LLMRouter ---------------------------------------------------------------------------------------------------
    bad_router("a model of its own", "spec.model", model={"source": "pvc://models/x"}),
    bad_router("no LLMRouter pod", "spec.replicas", "greater than or equal to 1", replicas=0),
    bad_router("an LLMRouter's durable queue without Redis", "async needs redis", **{"async": {"enabled": True}}),
    bad_router("a route without a model", "spec.routes[0].model: required", routes=[{"fallbacks": ["a"]}]),
    bad_router("a route that says nothing", "spec.routes[0]", "must have targets or fallbacks", routes=[{"model": "chat"}]),
    bad_router("two routes of a model", "routes", routes=[{"model": "chat", "fallbacks": ["a"]}] * 2),
    bad_router(
        "a target twice",
        "spec.routes[0]",
        "targets",
        routes=[{"model": "chat", "targets": [{"deployment": "a"}, {"deployment": "a", "weight": 2}]}],
    ),
    bad_router(
        "targets that get nothing",
        "spec.routes[0]",
        "must not all have the weight 0",
        routes=[{"model": "chat", "targets": [{"deployment": "a", "weight": 0}]}],
    ),
    bad_router(
        "a weight of less than nothing", "weight", routes=[{"model": "a", "targets": [{"deployment": "a", "weight": -1}]}]
    ),
    bad_router("a fallback to itself", "fallbacks must be other models", routes=[{"model": "chat", "fallbacks": ["chat"]}]),
    bad_router("a fallback twice", "fallbacks must be other models", routes=[{"model": "chat", "fallbacks": ["a", "b", "a"]}]),
    bad_router("a target that is no name", "deployment", routes=[{"model": "chat", "targets": [{"deployment": "No!"}]}]),
]

BAD += [
    # --- scaling -----------------------------------------------------------------------------------------------------
    bad("autoscaling without a bound", "spec.autoscaling.maxReplicas: required", autoscaling={}),
    bad("more at least than at most", "minReplicas must not be above", autoscaling={"minReplicas": 5, "maxReplicas": 4}),
    bad("zero without a time", "scaleToZeroAfterSeconds go together", autoscaling={**_AUTO, "minReplicas": 0}),
    bad(
        "a time to zero, and never zero",
        "scaleToZeroAfterSeconds go together",
        autoscaling={**_AUTO, "scaleToZeroAfterSeconds": 9},
    ),
    bad(
        "zero at night without a time",
        "needs scaleToZeroAfterSeconds",
        autoscaling={**_AUTO, "schedules": [{"cron": "0 22 * * *", "minReplicas": 0}]},
    ),
    bad(
        "more at least by day than at most",
        "minReplicas must not be above",
        autoscaling={**_AUTO, "schedules": [{"cron": "0 8 * * *", "minReplicas": 5}]},
    ),
    bad(
        "more at least than at most of a schedule's own",
        "minReplicas must not be above",
        autoscaling={**_AUTO, "schedules": [{"cron": "0 8 * * *", "minReplicas": 3, "maxReplicas": 2}]},
    ),
    bad(
        "an HPA to zero",
        "needs actuator Builtin or KEDA",
        autoscaling={**_AUTO, "actuator": "HPA", "minReplicas": 0, "scaleToZeroAfterSeconds": 60},
    ),
    bad(
        "schedules of an HPA",
        "schedules needs actuator Builtin",
        autoscaling={**_AUTO, "actuator": "HPA", "schedules": [{"cron": "0 8 * * *", "minReplicas": 2}]},
    ),
    bad("another actuator", "spec.autoscaling.actuator", autoscaling={**_AUTO, "actuator": "Knative"}),
    bad("a promise that says nothing", "slo must promise something", autoscaling=_AUTO, slo={}),
    bad("a promise that nobody keeps", "slo needs autoscaling", slo={"ttftMilliseconds": 500}),
    bad(
        "a promise that an HPA cannot keep",
        "slo needs autoscaling.actuator Builtin",
        autoscaling={**_AUTO, "actuator": "HPA"},
        slo={"ttftMilliseconds": 500},
    ),
    bad("a canary's shares that fall", "weights must rise", rollout={"canary": {"weights": [50, 10]}}),
    bad("a canary's share twice", "weights must rise", rollout={"canary": {"weights": [10, 10]}}),
    bad("a canary without a share", "spec.rollout.canary.weights", rollout={"canary": {"weights": []}}),
    bad("a canary with more than all", "spec.rollout.canary.weights", rollout={"canary": {"weights": [101]}}),
    bad("an error rate without quotes", "spec.rollout.canary.maxErrorRate", rollout={"canary": {"maxErrorRate": 0.02}}),
]

BAD_FOR_US = [
    bad_for_us(
        "a cron line of six parts",
        "spec.autoscaling.schedules[0].cron",
        "five parts",
        autoscaling={**_AUTO, "schedules": [{"cron": "0 0 8 * * 1", "minReplicas": 2}]},
    ),
    bad_for_us(
        "a cron line with an hour that no day has",
        "spec.autoscaling.schedules[0].cron",
        "must be a cron line",
        autoscaling={**_AUTO, "schedules": [{"cron": "0 25 * * *", "minReplicas": 2}]},
    ),
    bad_for_us(
        "a time zone that is not there",
        "spec.autoscaling.schedules[0].timezone",
        "Europe/Paris",
        autoscaling={**_AUTO, "schedules": [{"cron": "0 8 * * *", "timezone": "Mars/Olympus", "minReplicas": 2}]},
    ),
]


def parameters(rows: list[Row]) -> list[Any]:
    """For pytest.mark.parametrize("row", …)."""
    return [pytest.param(row, id=row.sentence) for row in rows]
