"""What the processes of the operator's side read from their environment, each name once.

One frozen dataclass a process, made by `from_environment`. Standard library only, since the router loads it too. A
value that cannot be used raises InvalidSettings with the variable's name, never a traceback from deep inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenfleet import contract
from tokenfleet.errors import InvalidSettings


def _text(environment: Mapping[str, str], name: str, default: str | None = None) -> str:
    value = environment.get(name, "") or default
    if value is None:
        raise InvalidSettings(f"{name} is not set. The Helm chart sets it; outside of a pod, export it yourself.")
    return value


def _integer(environment: Mapping[str, str], name: str, default: int, *, low: int, high: int) -> int:
    text = environment.get(name, "") or str(default)
    try:
        value = int(text)
    except ValueError:
        raise InvalidSettings(f"{name}={text!r} is not a whole number.") from None
    if not low <= value <= high:
        raise InvalidSettings(f"{name}={value} is outside of {low} to {high}.")
    return value


def _choice(environment: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """One of these words; the first is the default."""
    value = _text(environment, name, choices[0]).lower()
    if value not in choices:
        raise InvalidSettings(f"{name}={value!r} is not one of {', '.join(choices)}.")
    return value


def _log_level(environment: Mapping[str, str]) -> str:
    return _choice(environment, "TOKENFLEET_LOG_LEVEL", ("info", "debug", "warning", "error"))


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    return Path(environment[name]) if environment.get(name) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """Of the controller's process."""

    operator_image: str
    """Runs the routers: the image that this very process runs."""
    engine_image: str
    """Runs engines on GPUs."""
    engine_cpu_image: str
    """Runs engines of `accelerator: cpu`."""
    engine_simulated_image: str
    """Runs simulators, `accelerator: simulated`: anything with `tokenfleet-engine`; by default the operator's own image."""
    image_pull_policy: str
    own_namespace: str
    """Where the leader's Lease and the heartbeat Lease live."""
    identity: str
    """Who holds the leader's Lease: the pod's name."""
    watch_namespaces: tuple[str, ...]
    """Empty: the whole cluster."""
    watch_nodes: bool
    """Whether nodes are watched for notices of their end: only where the whole cluster is, by whoever may."""
    resync_seconds: int
    """Each LLMDeployment is reconciled at least this often, whatever its events."""
    workers: int
    """How many LLMDeployments are reconciled at once."""
    lease_seconds: int
    """How long another replica waits for a leader that gives no sign of life."""
    liveness_seconds: int
    """How long the watch may stay silent, while the API server answers, until the process counts as dead."""
    health_port: int
    metrics_port: int
    external_metrics_port: int
    keda_port: int
    log_level: str
    inspect_seconds: int = 0
    """How long new engines wait for what is read of the model's files, to know that it fits; 0: nothing is read."""
    accelerators_file: Path | None = None
    """Classes of accelerators that the cluster adds or changes; may not be there."""
    spot: bool = False
    """Whether the nodes are paid at the price of spot."""
    external_metrics_dir: Path | None = None
    """tls.crt and tls.key of external.metrics.k8s.io, which is served then."""
    keda_address: str | None = None
    """host:port where KEDA reaches the external scaler, which is served then."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "ControllerSettings":
        return cls(
            operator_image=_text(environment, "TOKENFLEET_OPERATOR_IMAGE"),
            engine_image=_text(environment, "TOKENFLEET_ENGINE_IMAGE"),
            engine_cpu_image=_text(environment, "TOKENFLEET_ENGINE_CPU_IMAGE"),
            engine_simulated_image=_text(
                environment, "TOKENFLEET_ENGINE_SIMULATED_IMAGE", _text(environment, "TOKENFLEET_OPERATOR_IMAGE")
            ),
            image_pull_policy=_text(environment, "TOKENFLEET_IMAGE_PULL_POLICY", "IfNotPresent"),
            own_namespace=_text(environment, contract.ENV_NAMESPACE),
            identity=_text(environment, "TOKENFLEET_IDENTITY"),
            watch_namespaces=tuple(n for n in environment.get("TOKENFLEET_WATCH_NAMESPACES", "").split(",") if n),
            watch_nodes=_choice(environment, "TOKENFLEET_WATCH_NODES", ("false", "true")) == "true",
            resync_seconds=_integer(environment, "TOKENFLEET_RESYNC_SECONDS", 300, low=1, high=86_400),
            workers=_integer(environment, "TOKENFLEET_WORKERS", 8, low=1, high=256),
            lease_seconds=_integer(environment, "TOKENFLEET_LEASE_SECONDS", 15, low=3, high=3_600),
            liveness_seconds=_integer(environment, "TOKENFLEET_LIVENESS_SECONDS", 120, low=5, high=86_400),
            health_port=_integer(environment, "TOKENFLEET_HEALTH_PORT", contract.CONTROLLER_HEALTH_PORT, low=1, high=65_535),
            metrics_port=_integer(environment, "TOKENFLEET_METRICS_PORT", contract.CONTROLLER_METRICS_PORT, low=1, high=65_535),
            external_metrics_port=_integer(
                environment,
                "TOKENFLEET_EXTERNAL_METRICS_PORT",
                contract.CONTROLLER_EXTERNAL_METRICS_PORT,
                low=1,
                high=65_535,
            ),
            keda_port=_integer(environment, "TOKENFLEET_KEDA_PORT", contract.CONTROLLER_KEDA_PORT, low=1, high=65_535),
            log_level=_log_level(environment),
            inspect_seconds=_integer(environment, "TOKENFLEET_INSPECT_SECONDS", 0, low=0, high=3_600),
            accelerators_file=_path(environment, "TOKENFLEET_ACCELERATORS_FILE"),
            spot=_choice(environment, "TOKENFLEET_SPOT_PRICES", ("false", "true")) == "true",
            external_metrics_dir=_path(environment, "TOKENFLEET_EXTERNAL_METRICS_TLS_DIR"),
            keda_address=environment.get("TOKENFLEET_KEDA_ADDRESS") or None,
        )


def _addresses(environment: Mapping[str, str], name: str) -> tuple[tuple[str, int], ...]:
    addresses = []
    for text in environment.get(name, "").split(","):
        if not text.strip():
            continue
        host, _, port = text.strip().rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
            raise InvalidSettings(f"{name} has {text.strip()!r}, which is not host:port. Example: 127.0.0.1:8001")
        addresses.append((host.strip("[]"), int(port)))
    return tuple(addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """Of a router's process."""

    namespace: str
    deployment: str
    """The LLMDeployment whose engines it routes to."""
    host: str
    """Empty: all addresses, of IPv4 and IPv6."""
    port: int
    admin_port: int
    drain_seconds: int
    """After SIGTERM and the lame duck: how long running streams may go on."""
    lame_duck_seconds: int
    """After SIGTERM: how long new connections are still taken, until every endpoint has forgotten this router."""
    silence_seconds: int
    """How long a replica may send nothing, before its first byte or between two, until it counts as dead."""
    log_level: str
    shared: bool = False
    """`deployment` is the name of an LLMRouter, not of an LLMDeployment."""
    keys_dir: Path | None = None
    """Where set, every request needs an API key of those in it: one file per key."""
    tls_dir: Path | None = None
    """Where set, the traffic port speaks TLS with tls.crt and tls.key of it."""
    redis_url_file: Path | None = None
    """Where set, limits are shared through the Redis that its URL names, and the durable queue lives there."""
    static_replicas: tuple[tuple[str, int], ...] = ()
    """Where set, these are the replicas, and the Kubernetes API is not asked for anything."""
    static_model: str = ""
    """The served model's name that goes with static_replicas."""
    static_spec: str = "{}"
    """spec.router as JSON, which goes with static_replicas."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "RouterSettings":
        static = _addresses(environment, "TOKENFLEET_ROUTER_STATIC_REPLICAS")
        router = environment.get(contract.ENV_ROUTER, "")
        return cls(
            namespace=_text(environment, contract.ENV_NAMESPACE, "static" if static else None),
            deployment=router or _text(environment, contract.ENV_DEPLOYMENT, "static" if static else None),
            shared=bool(router),
            keys_dir=_path(environment, contract.ENV_ROUTER_KEYS_DIR),
            tls_dir=_path(environment, contract.ENV_ROUTER_TLS_DIR),
            redis_url_file=_path(environment, contract.ENV_ROUTER_REDIS_URL_FILE),
            host=_text(environment, "TOKENFLEET_ROUTER_HOST", ""),
            port=_integer(environment, "TOKENFLEET_ROUTER_PORT", contract.ROUTER_PORT, low=0, high=65_535),
            admin_port=_integer(environment, "TOKENFLEET_ROUTER_ADMIN_PORT", contract.ROUTER_ADMIN_PORT, low=0, high=65_535),
            drain_seconds=_integer(environment, contract.ENV_DRAIN_SECONDS, 600, low=0, high=86_400),
            lame_duck_seconds=_integer(
                environment,
                "TOKENFLEET_ROUTER_LAME_DUCK_SECONDS",
                contract.ROUTER_LAME_DUCK_SECONDS,
                low=0,
                high=3_600,
            ),
            silence_seconds=_integer(environment, "TOKENFLEET_ROUTER_SILENCE_SECONDS", 600, low=1, high=86_400),
            log_level=_log_level(environment),
            static_replicas=static,
            static_model=_text(environment, "TOKENFLEET_ROUTER_STATIC_MODEL") if static else "",
            static_spec=_text(environment, "TOKENFLEET_ROUTER_STATIC_SPEC", "{}"),
        )
