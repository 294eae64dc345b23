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


def good_router(sentence: str, **fields: Any) -> Row:
    """Of an LLMRouter."""
    return Row(sentence=sentence, spec={**ROUTER, **fields}, kind=contract.ROUTER_KIND)


def bad_router(sentence: str, *words: str, **fields: Any) -> Row:
    """Of an LLMRouter."""
    assert words, "a bad spec needs words that its message holds"
    return Row(sentence=sentence, spec={**ROUTER, **fields}, words=words, kind=contract.ROUTER_KIND)


def _source(text: str) -> Json:
    return {"model": {"source": text}}


_NVIDIA: Json = {"accelerator": "nvidia-h100-80gb"}

GOOD = [
    good("the smallest spec"),
    good("a source that is a whole claim", **_source("pvc://models")),
    good("a source with dots and underscores in its path", **_source("pvc://models.v1/org/Llama_3.1-8B..instruct")),
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
    bad("a bare path", "spec.model", "source must be pvc://CLAIM/PATH", **_source("/models/llama")),
    bad("another scheme", "spec.model", "source must be pvc://CLAIM/PATH", **_source("hf://meta-llama/Llama-3.1-8B")),
    bad("no claim", "source must be pvc://CLAIM/PATH", **_source("pvc://")),
    bad("a claim in capitals", "source must be pvc://CLAIM/PATH", **_source("pvc://Models/x")),
    bad("a slash at the end", "source must be pvc://CLAIM/PATH", **_source("pvc://models/")),
    bad("two slashes in a row", "source must be pvc://CLAIM/PATH", **_source("pvc://models//x")),
    bad("a space in the path", "source must be pvc://CLAIM/PATH", **_source("pvc://models/a b")),
    bad("a line break at the end", "source must be pvc://CLAIM/PATH", **_source("pvc://models/x\n")),
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


def parameters(rows: list[Row]) -> list[Any]:
    """For pytest.mark.parametrize("row", …)."""
    return [pytest.param(row, id=row.sentence) for row in rows]
