"""The names that more than one part of Tokenfleet, or someone outside of it, relies on.

Labels, annotations, ports, paths, headers, metric names and the environment that the controller hands to its children
stand here once. Standard library only: the controller, the router and the engine all import this module, and the engine
imports nothing else of ours. Changing a value here is changing an interface; say so in the changelog.
"""

import hashlib
import re
from typing import Final

# --- The API ---------------------------------------------------------------------------------------------
GROUP: Final = "tokenfleet.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "LLMDeployment"
PLURAL: Final = "llmdeployments"
SINGULAR: Final = "llmdeployment"
SHORT_NAME: Final = "llmd"
ROUTER_KIND: Final = "LLMRouter"
ROUTER_PLURAL: Final = "llmrouters"
ROUTER_SINGULAR: Final = "llmrouter"
ROUTER_SHORT_NAME: Final = "llmr"
MAX_NAME_LENGTH: Final = 40
"""Of an LLMDeployment or an LLMRouter, so that the names of its children, and of their pods, fit into a DNS label."""

FIELD_MANAGER: Final = "tokenfleet-controller"
"""Of every server-side apply by the controller, children and status alike."""

# --- Labels and annotations ------------------------------------------------------------------------------
LABEL_DEPLOYMENT: Final = "tokenfleet.dev/deployment"
"""On every child and pod of an LLMDeployment: its name."""
LABEL_ROUTER: Final = "tokenfleet.dev/router"
"""On every child and pod of an LLMRouter: its name."""
OWNER_LABELS: Final = {KIND: LABEL_DEPLOYMENT, ROUTER_KIND: LABEL_ROUTER}
"""By kind, the label that names the owner."""
LABEL_ROLE: Final = "tokenfleet.dev/role"
"""On every child and pod: ROLE_ENGINE, ROLE_PREFILL, ROLE_ROUTER or ROLE_INSPECTION."""
ROLE_ENGINE: Final = "engine"
ROLE_PREFILL: Final = "prefill"
"""Of engine pods that only read prompts; ROLE_ENGINE is then that of those that decode."""
ROLE_INSPECTION: Final = "inspection"
"""Of a pod that reads what a model is: its config.json and the headers of its weights."""
ROLE_ROUTER: Final = "router"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "tokenfleet"

ANNOTATION_APPLIED_HASH: Final = "tokenfleet.dev/applied-hash"
"""On every child: the hash of what the controller last applied, so that a field we no longer send is noticed."""
ANNOTATION_DRAINING: Final = "tokenfleet.dev/draining"
"""On an engine pod: RFC 3339 deadline of its drain. Routers give a pod that carries it, or is being deleted, nothing new."""
ANNOTATION_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""On an engine pod that drains for a scale-down: Kubernetes' own, so that the ReplicaSet takes this pod and no other."""
ANNOTATION_NOTICE: Final = "tokenfleet.dev/preemption-notice"
"""On a node or an engine pod, by whoever knows: it is about to be taken away. Any value."""
ANNOTATION_NOTICED: Final = "tokenfleet.dev/noticed-at"
"""On an engine pod, by the controller: when it first saw that the pod, or its node, is under notice."""
ANNOTATION_RESTARTED: Final = "tokenfleet.dev/restarted-at"
"""On an LLMDeployment: a time. A new one rolls the engines, each behind its drain; it stands on their pods too."""
ANNOTATION_ROLLOUT: Final = "tokenfleet.dev/rollout"
"""On an LLMDeployment: `promote:REVISION` or `abort:REVISION`, what to do with the canary of that status.rollout.revision."""
ANNOTATION_TEMPLATE: Final = "tokenfleet.dev/stable-template"
"""On an engines' Deployment where rollout.canary is set: its pod template as applied, as JSON. It keeps it beside a canary."""
LABEL_TRACK: Final = "tokenfleet.dev/track"
"""On canary pods and their Deployment: TRACK_CANARY. All others are TRACK_STABLE, without the label."""
TRACK_STABLE: Final = "stable"
TRACK_CANARY: Final = "canary"
LABEL_LEADER: Final = "tokenfleet.dev/leader"
"""On the pod of the controller that leads: "true". The Services of its metrics for autoscalers choose by it."""
CONDITION_IN_USE: Final = "tokenfleet.dev/in-use"
"""An engine pod's readiness gate: routers send to it. A rollout goes on only then."""
ANNOTATION_INSPECTS: Final = "tokenfleet.dev/inspects"
"""On an inspection pod: what it reads, as status.model.of has it."""
ANNOTATION_ADAPTERS: Final = "tokenfleet.dev/adapters"
"""On an engine pod: the LoRA adapters that its engine loads before it is ready, by name, with commas between them."""

# --- Containers, ports and paths -------------------------------------------------------------------------
CONTAINER_ENGINE: Final = "engine"
CONTAINER_ROUTER: Final = "router"
CONTAINER_FETCH: Final = "fetch"
"""The engine pods' init container, where a model has to be fetched first."""
CONTAINER_INSPECTION: Final = "inspect"

ENGINE_PORT: Final = 8000
NIXL_PORT: Final = 5600
"""Of a disaggregated deployment's engines: where they learn how to reach each other's KV cache."""
NIXL_DATA_PORTS: Final = (5700, 6723)
"""From and to: where KV blocks come and go where they travel by TCP."""
ROUTER_PORT: Final = 8080
ROUTER_ADMIN_PORT: Final = 9090
"""/healthz, /readyz and /metrics of the router: a port of their own, so that load cannot block a probe."""
CONTROLLER_HEALTH_PORT: Final = 8081
CONTROLLER_METRICS_PORT: Final = 9090
CONTROLLER_EXTERNAL_METRICS_PORT: Final = 8443
"""external.metrics.k8s.io, where the chart turns it on."""
CONTROLLER_KEDA_PORT: Final = 9091
"""gRPC, KEDA's external scaler, where the chart turns it on."""
EXTERNAL_METRIC_QUEUE_DEPTH: Final = "tokenfleet_queue_depth"
"""Requests that wait, in routers and engines, of one LLMDeployment."""
EXTERNAL_METRIC_IN_FLIGHT: Final = "tokenfleet_in_flight"
"""Requests in flight on its replicas."""
SERVICE_PORT: Final = 80
SERVICE_TLS_PORT: Final = 443
"""Of a router's Service, instead of SERVICE_PORT where the router speaks TLS."""

PATH_ENGINE_READY: Final = "/ready"
PATH_ENGINE_LIVE: Final = "/health"
PATH_ENGINE_DRAIN: Final = "/tokenfleet/drain"
"""POST, from loopback only: refuse new requests from now on. Answers {"draining": true, "in_flight": n}."""
PATH_ENGINE_LOAD: Final = "/tokenfleet/load"
"""GET: {"draining": bool, "in_flight": n, …}."""
PATH_ENGINE_SLEEP: Final = "/tokenfleet/sleep"
"""POST, from loopback only: give the GPU's memory back, keep the process. 409 while requests run, 501 where vLLM cannot."""
PATH_ROUTER_REPORTS: Final = "/tokenfleet/reports"
"""GET on a router's admin port: a line of JSON, at most one a second, whenever something changed; an empty line as a heartbeat.
See docs/scaling.md for what a line holds."""
REPORT_SECONDS: Final = 1.0
"""Between two lines, but for what cannot wait: a request that waits for a model without a replica, a replica's new state."""
REPORT_HEARTBEAT_SECONDS: Final = 10.0
REPORT_STALE_SECONDS: Final = 25.0
"""After this without a byte a router's report counts no more."""
REPORT_TTFT_BOUNDS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0),
)
REPORT_ITL_BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0),
)
"""Upper bounds, in seconds, of the buckets of a report's histograms, and of the router's metrics; one more is for all above.
Fine where objectives lie: a histogram answers well only what one of its edges asks."""
PATH_ENGINE_WAKE: Final = "/tokenfleet/wake"
"""POST, from loopback only: take the memory again."""

MODEL_MOUNT_PATH: Final = "/models"
"""Where the volume of a model's pvc:// stands, read-only, in an engine pod."""
CLAIMS_MOUNT_PATH: Final = "/claims"
"""Where the claims of a draft model or an adapter stand, each below its own name, where it is not the model's."""
CACHE_MOUNT_PATH: Final = "/cache"
"""Where fetched models stand, each at `cached_path`."""
KEYS_MOUNT_PATH: Final = "/etc/tokenfleet/keys"
"""In a router's pod: one file for each API key."""
TLS_MOUNT_PATH: Final = "/etc/tokenfleet/tls"
"""In a router's pod: tls.crt and tls.key."""
REDIS_MOUNT_PATH: Final = "/etc/tokenfleet/redis"
"""In a router's pod: the file `url`."""
INSPECTION_PREFIX: Final = "MODEL "
"""How the line of an inspection pod's log begins that says what the model is; JSON follows."""
TERMINATION_LOG_PATH: Final = "/dev/termination-log"
"""Where the engine leaves {"reason", "message"} as JSON before it exits with an error of its own."""

# --- Headers ---------------------------------------------------------------------------------------------
HEADER_REQUEST_ID: Final = "x-request-id"
HEADER_DRAINING: Final = "x-tokenfleet-draining"
"""On an engine's 503: this replica is going away, and has not begun this request; another may take it."""
HEADER_IN_FLIGHT: Final = "x-tokenfleet-in-flight"
"""On every answer of an engine: the requests that it has in flight, this one included. Routers see each other's load by it."""

HEADER_CONTINUE: Final = "x-tokenfleet-continue"
"""Of a request: `off`, and a stream whose engine is lost ends with an error event instead of going on elsewhere."""

# --- The controller ------------------------------------------------------------------------------------------------------
LEADER_LEASE: Final = "tokenfleet-controller"
"""In the controller's namespace: who leads. Its renewals are also the proof that watching is alive."""
METRIC_ACCELERATORS_INVALID: Final = "tokenfleet_controller_accelerators_invalid"
"""Gauge: 1 while the cluster's own document of accelerators has a mistake."""
METRIC_COST_HOURLY: Final = "tokenfleet_cost_hourly"
"""Gauge by namespace, deployment and currency: what its engines cost in an hour, as they are now."""
METRIC_COST: Final = "tokenfleet_cost"
"""Counter (exposed with _total) likewise: what they have cost since this process leads."""
METRIC_COST_TOKENS: Final = "tokenfleet_cost_tokens"
"""Counter (exposed with _total) by namespace, deployment and kind (prompt, completion): what they were used for meanwhile."""
METRIC_DEPLOYMENTS: Final = "tokenfleet_controller_deployments"
METRIC_SCALING_DESIRED: Final = "tokenfleet_scaling_desired_replicas"
"""Gauge by namespace and deployment, where autoscaled."""
METRIC_SCALING_DECISIONS: Final = "tokenfleet_scaling_decisions"
"""Counter (exposed with _total) by namespace, deployment and reason."""
METRIC_WAKE_SECONDS: Final = "tokenfleet_scaling_wake_seconds"
"""Histogram by part: decide (from a request's wait to the count), pod (to containers ready), use (to routers' use), all."""
METRIC_ROUTER_REPORTS: Final = "tokenfleet_controller_router_reports"
"""Gauge by state: fresh, stale: routers whose reports the controller follows."""
METRIC_ROUTERS: Final = "tokenfleet_controller_routers"
METRIC_LEADER: Final = "tokenfleet_controller_leader"
METRIC_QUEUE_DEPTH: Final = "tokenfleet_controller_queue_depth"
METRIC_RECONCILES: Final = "tokenfleet_controller_reconciles"
"""Counter (exposed with _total) by result: done, retried (the API said: not now, or look again), failed (a fault of ours)."""
METRIC_RECONCILE_SECONDS: Final = "tokenfleet_controller_reconcile_seconds"

# --- Metrics of the router ---------------------------------------------------------------------------------------------------
METRIC_ASYNC_PENDING: Final = "llm_router_async_pending"
"""Gauge by model: requests of the durable queue that have not ended, whichever router has them."""
METRIC_ASYNC_RUNNING: Final = "llm_router_async_running"
"""Gauge: those that this router runs."""
METRIC_ASYNC_TRIES: Final = "llm_router_async_tries"
"""Counter (exposed with _total) by result: succeeded, failed, dead, tried_again, or lost (cancelled, or another router's)."""
METRIC_CLIENT_CONNECTIONS: Final = "llm_router_client_connections"
METRIC_COMPLETION_TOKENS: Final = "llm_router_completion_tokens"
"""Counter (exposed with _total) by model and key (a key's name, anonymous, or other): as the answers' usage has it."""
METRIC_CONTINUATIONS: Final = "llm_router_continuations"
"""Counter (exposed with _total) by result: continued, or why a stream whose replica was lost ended with an error."""
METRIC_EJECTED: Final = "llm_router_ejected_replicas"
METRIC_EJECTIONS: Final = "llm_router_ejections"
"""Counter (exposed with _total) by kind: the last failure of a replica that is left alone for a while."""
METRIC_FOREIGN_LOAD: Final = "llm_router_foreign_load"
"""Gauge by replica: what other routers are taken to have in flight on it."""
METRIC_IN_FLIGHT: Final = "llm_router_in_flight"
"""Gauge by replica (the pod's name): requests that this router has given to it and that have not ended."""
METRIC_INTER_TOKEN: Final = "llm_router_inter_token_seconds"
METRIC_LOAD: Final = "llm_router_load"
"""Gauge by model, from 0 to 1: what shedding goes by, for whom it hits hardest."""
METRIC_PREFILLS: Final = "llm_router_prefills"
"""Counter (exposed with _total) by result: transferred, unsuited (decoded plainly), or what made the router go on plainly."""
METRIC_PROMPT_TOKENS: Final = "llm_router_prompt_tokens"
METRIC_QUEUE_SECONDS: Final = "llm_router_queue_seconds"
METRIC_REDIS_UP: Final = "llm_router_redis_up"
"""Gauge, where limits are shared: 0 while each router goes by limits of its own."""
METRIC_REPLICAS: Final = "llm_router_replicas"
"""Gauge by state: routable, draining, unready."""
METRIC_REQUEST_SECONDS: Final = "llm_router_request_seconds"
METRIC_REQUESTS: Final = "llm_router_requests"
"""Counter (exposed with _total) by code (the status that the client got; 499: it left first), reason and model (empty where
the request was refused before its model was known)."""
METRIC_RETRIES: Final = "llm_router_retries"
METRIC_ROUTER_QUEUE_DEPTH: Final = "llm_router_queue_depth"
"""Gauge by model and priority: requests that wait for a place on a replica."""
METRIC_SHED: Final = "llm_router_shed"
"""Counter (exposed with _total) by priority: requests that the lot fell on."""
METRIC_TIME_TO_FIRST_BYTE: Final = "llm_router_time_to_first_byte_seconds"
METRIC_UPSTREAM_IDLE: Final = "llm_router_upstream_idle_connections"
METRIC_WATCH_FAILURES: Final = "llm_router_watch_failures"
METRIC_WATCH_SYNCED: Final = "llm_router_watch_synced"

# --- Metrics of the engine -------------------------------------------------------------------------------
METRIC_ENGINE_ACTIVE: Final = "llm_active_requests"
METRIC_ENGINE_GPU_MEMORY: Final = "llm_gpu_memory_bytes"
"""Gauge by gpu (its index): in use, by whomever."""
METRIC_ENGINE_INTER_TOKEN: Final = "llm_inter_token_latency_seconds"
METRIC_ENGINE_KV_CACHE: Final = "llm_kv_cache_usage_ratio"
METRIC_ENGINE_LATENCY: Final = "llm_latency_seconds"
METRIC_ENGINE_LOAD: Final = "llm_load_ratio"
"""Gauge: the load that admission goes by; at 1 it refuses."""
METRIC_ENGINE_PREFIX_HITS: Final = "llm_prefix_cache_hit_ratio"
METRIC_ENGINE_QUEUE_DEPTH: Final = "llm_queue_depth"
METRIC_ENGINE_REFUSED: Final = "llm_requests_refused"
"""Counter (exposed with _total) by reason: draining, sleeping, or a bound: in_flight, waiting, queue_seconds."""
METRIC_ENGINE_REQUESTS: Final = "llm_requests"
"""Counter (exposed with _total) by model and status: the answer's, 499 where the client left first, and 500, or the code of the
error, where a stream that had begun with 200 ended with an error."""
METRIC_ENGINE_SPECULATIVE: Final = "llm_speculative_acceptance_ratio"
METRIC_ENGINE_TIME_TO_FIRST_TOKEN: Final = "llm_time_to_first_token_seconds"
METRIC_ENGINE_TOKENS: Final = "llm_tokens_generated"
"""Counter (exposed with _total) by model."""
METRIC_MODEL_OTHER: Final = "other"
"""In the engine's `model` label: a model that it does not serve, or one that an answer does not tell."""

# --- Environment of the children -------------------------------------------------------------------------
ENV_NAMESPACE: Final = "TOKENFLEET_NAMESPACE"
ENV_DEPLOYMENT: Final = "TOKENFLEET_DEPLOYMENT"
"""Of a router of one LLMDeployment: that one's name."""
ENV_ROUTER: Final = "TOKENFLEET_ROUTER"
"""Of a shared router, instead: its LLMRouter's name."""
ENV_ROUTER_KEYS_DIR: Final = "TOKENFLEET_ROUTER_KEYS_DIR"
ENV_ROUTER_TLS_DIR: Final = "TOKENFLEET_ROUTER_TLS_DIR"
ENV_ROUTER_REDIS_URL_FILE: Final = "TOKENFLEET_ROUTER_REDIS_URL_FILE"
"""Each of these three switches its feature on; what it names may appear later than the router."""
ENV_DRAIN_SECONDS: Final = "TOKENFLEET_DRAIN_SECONDS"
ENV_ENGINE_MAX_IN_FLIGHT: Final = "TOKENFLEET_ENGINE_MAX_IN_FLIGHT"
"""Of an engine's server: how many requests it takes at once. In these three 0 is no bound, and not set is the default."""
ENV_ENGINE_MAX_WAITING: Final = "TOKENFLEET_ENGINE_MAX_WAITING"
"""How many requests may wait in its queue for the next one to be taken."""
ENV_ENGINE_MAX_QUEUE_SECONDS: Final = "TOKENFLEET_ENGINE_MAX_QUEUE_SECONDS"
"""How long the next one would wait there, by how fast requests were begun of late. May have a fraction."""

# --- Reasons that an engine gives for its own exit (status.lastFailure and conditions show them) ---------
REASON_MODEL_NOT_FOUND: Final = "ModelNotFound"
REASON_MODEL_INVALID: Final = "ModelInvalid"
REASON_ENGINE_CONFIG_INVALID: Final = "EngineConfigInvalid"
REASON_ENGINE_START_FAILED: Final = "EngineStartFailed"
REASON_ENGINE_CRASHED: Final = "EngineCrashed"
"""It served, and then ended by itself."""
REASON_OUT_OF_MEMORY: Final = "OutOfMemory"
REASON_MODEL_ACCESS_DENIED: Final = "ModelAccessDenied"
"""The model store knows the caller not at all, or not well enough."""
REASON_MODEL_STORE_UNREACHABLE: Final = "ModelStoreUnreachable"
"""The model store does not answer, or breaks off again and again."""
REASON_DISK_FULL: Final = "DiskFull"
"""The model's files have no room where they are to stand."""

# --- Timing ----------------------------------------------------------------------------------------------
ENGINE_SHUTDOWN_SECONDS: Final = 10
"""vLLM's --shutdown-timeout: after preStop nothing should be in flight; this is the second net."""
ENGINE_TEARDOWN_SECONDS: Final = 20
"""What an engine process may take to free its memory and exit."""
ROUTER_LAME_DUCK_SECONDS: Final = 5
"""After SIGTERM a router still takes new connections for this long, since endpoints take a while to forget it."""


def termination_grace_seconds(*, drain_seconds: int) -> int:
    """terminationGracePeriodSeconds of an engine pod, in seconds: preStop's wait, vLLM's own shutdown, teardown."""
    return drain_seconds + ENGINE_SHUTDOWN_SECONDS + ENGINE_TEARDOWN_SECONDS


def router_grace_seconds(*, drain_seconds: int) -> int:
    """terminationGracePeriodSeconds of a router pod, in seconds: lame duck, running streams, and time to exit."""
    return ROUTER_LAME_DUCK_SECONDS + drain_seconds + 5


# --- The model store ---------------------------------------------------------------------------------------
PROGRESS: Final = re.compile(r"\[(?P<done>\d+)/(?P<total>\d+) bytes(?:, (?P<left>\d+) s left)?\]$")
"""How a line of the fetch container's log ends that tells of its progress; the controller reads the last one."""


def progress(*, done: int, total: int, left: int | None) -> str:
    """The end of such a line: bytes done and in all, and the seconds that the rest will take where that can be said."""
    seconds = "" if left is None else f", {left} s left"
    return f"[{done}/{total} bytes{seconds}]"


def cached_path(source: str, revision: str | None) -> str:
    """Where a fetched model stands: readable, and another path for every other source or revision.

    `source` is a URL such as hf://org/name; the path is below CACHE_MOUNT_PATH.
    """
    words = re.sub(r"[^A-Za-z0-9._-]+", "--", source).strip(".-")[:80]
    digest = hashlib.sha256(f"{source}@{revision or ''}".encode()).hexdigest()[:10]
    return f"{CACHE_MOUNT_PATH}/{words}-{digest}"
