"""The conditions of an LLMDeployment and of an LLMRouter, and every reason that they may carry.

Positive polarity throughout: True is good. EngineReady and RouterReady are True while at least one replica can be sent to, and
their reason still tells what keeps the rest; Ready is True exactly when nothing that it is made of stands in the way, and tells
what that tells.
`REASONS` is the whole vocabulary, which docs/conditions.md publishes (a test compares).
"""

from dataclasses import dataclass
from typing import Final, Literal

from tokenfleet import contract

READY: Final = "Ready"
SPEC_VALID: Final = "SpecValid"
MODEL_FITS: Final = "ModelFits"
ENGINE_READY: Final = "EngineReady"
ROUTER_READY: Final = "RouterReady"
SCALING_READY: Final = "ScalingReady"

PARTS: Final = (SPEC_VALID, MODEL_FITS, ENGINE_READY, ROUTER_READY, SCALING_READY)
"""What Ready is made of, in the order in which a reader wants to hear of it: the first that is not True explains Ready.

An LLMRouter has neither ModelFits nor EngineReady, a simulator no ModelFits, and only what is autoscaled has ScalingReady. That
one alone never makes Ready False: requests are served, by as many replicas as there are. Nor does ModelFits while it is
Unknown: the engine will say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one check, or all checks of one condition, found."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


# --- True -----------------------------------------------------------------------------------------------------------
AS_EXPECTED: Final = "AsExpected"

# --- SpecValid ------------------------------------------------------------------------------------------------------
INVALID_SPEC: Final = "InvalidSpec"
UNKNOWN_ACCELERATOR: Final = "UnknownAccelerator"
NAME_CONFLICT: Final = "NameConflict"
REJECTED_BY_API_SERVER: Final = "RejectedByAPIServer"
ROUTES_UNRESOLVED: Final = "RoutesUnresolved"
NO_MODELS: Final = "NoModels"

# --- ModelFits ------------------------------------------------------------------------------------------------------
DOES_NOT_FIT: Final = "DoesNotFit"
INSPECTING_MODEL: Final = "InspectingModel"
MODEL_NOT_INSPECTED: Final = "ModelNotInspected"
MODEL_UNKNOWN: Final = "ModelUnknown"
ACCELERATOR_UNKNOWN: Final = "AcceleratorUnknown"

# --- EngineReady ----------------------------------------------------------------------------------------------------
SUSPENDED: Final = "Suspended"
SCALED_TO_ZERO: Final = "ScaledToZero"
INSUFFICIENT_GPU: Final = "InsufficientGPU"
UNSCHEDULABLE: Final = "Unschedulable"
QUOTA_EXCEEDED: Final = "QuotaExceeded"
VOLUME_NOT_READY: Final = "VolumeNotReady"
IMAGE_PULL_FAILED: Final = "ImagePullFailed"
CONTAINER_CONFIG_INVALID: Final = "ContainerConfigInvalid"
MODEL_NOT_FOUND: Final = contract.REASON_MODEL_NOT_FOUND
MODEL_ACCESS_DENIED: Final = contract.REASON_MODEL_ACCESS_DENIED
MODEL_STORE_UNREACHABLE: Final = contract.REASON_MODEL_STORE_UNREACHABLE
DISK_FULL: Final = contract.REASON_DISK_FULL
MODEL_INVALID: Final = contract.REASON_MODEL_INVALID
ENGINE_CONFIG_INVALID: Final = contract.REASON_ENGINE_CONFIG_INVALID
ENGINE_START_FAILED: Final = contract.REASON_ENGINE_START_FAILED
OUT_OF_MEMORY: Final = contract.REASON_OUT_OF_MEMORY
ENGINE_CRASHED: Final = contract.REASON_ENGINE_CRASHED
ENGINE_CRASH_LOOPING: Final = "EngineCrashLooping"
FETCHING_MODEL: Final = "FetchingModel"
LOADING_MODEL: Final = "LoadingModel"
ENGINE_UNHEALTHY: Final = "EngineUnhealthy"
UPDATING: Final = "Updating"
CANARY_PROGRESSING: Final = "CanaryProgressing"
CANARY_ROLLED_BACK: Final = "CanaryRolledBack"
CREATING: Final = "Creating"

# --- RouterReady ----------------------------------------------------------------------------------------------------
ROUTER_NOT_FOUND: Final = "RouterNotFound"
ROUTER_STARTING: Final = "RouterStarting"
ROUTER_CRASH_LOOPING: Final = "RouterCrashLooping"

# --- ScalingReady ---------------------------------------------------------------------------------------------------
SIGNAL_MISSING: Final = "SignalMissing"
SIGNAL_STALE: Final = "SignalStale"
BUDGET_EXHAUSTED: Final = "BudgetExhausted"
BUDGET_UNKNOWN: Final = "BudgetUnknown"

# --- ScalingReady, where another than the controller decides ----------------------------------------------------------
AUTOSCALER_INACTIVE: Final = "AutoscalerInactive"
KEDA_NOT_INSTALLED: Final = "KEDANotInstalled"
KEDA_NOT_ENABLED: Final = "KEDANotEnabled"

REASONS: Final[dict[str, str]] = {
    AS_EXPECTED: "All is as the spec says.",
    INVALID_SPEC: "A field of the spec, or two together, cannot be run. The message names them. What ran before goes on.",
    UNKNOWN_ACCELERATOR: "`spec.accelerator` names no known class. The message lists the classes that there are.",
    NAME_CONFLICT: "An object that Tokenfleet needs to create exists and belongs to someone else. It is left as it is: rename "
    "the LLMDeployment or LLMRouter, or remove that object.",
    REJECTED_BY_API_SERVER: "The API server, or an admission webhook or policy, refused an object that Tokenfleet made, or the "
    "pods. The message carries its words; mostly `podTemplate` is the cause.",
    ROUTES_UNRESOLVED: "An LLMRouter's route names an LLMDeployment or a model that is not there, or leaves an LLMDeployment "
    "without requests. The message names them. All else is served.",
    NO_MODELS: "No LLMDeployment names this LLMRouter by `spec.routerRef`, so it has nothing to serve yet.",
    DOES_NOT_FIT: "The model does not fit into the memory of `spec.accelerator` as the spec runs it. The message says what is "
    "missing and what to change. No engine is made or changed by this spec; what ran before goes on.",
    INSPECTING_MODEL: "A pod reads what the model is, before an engine is made or changed. It takes seconds, and engines wait "
    "no longer than the chart's `inspection.seconds`.",
    MODEL_NOT_INSPECTED: "Whether the model fits is not known, since its files were not inspected. The message says why. "
    "Engines are made nevertheless, and the inspection is tried again.",
    MODEL_UNKNOWN: "Planning does not know models of this kind, so whether it fits is not known. Engines are made "
    "nevertheless.",
    ACCELERATOR_UNKNOWN: "`spec.accelerator` is a class whose memory is not known, such as `nvidia`, so neither is whether the "
    "model fits. Engines are made nevertheless.",
    SUSPENDED: "`spec.suspend` is true: no engine runs, on purpose, and all else is kept. Requests get 503.",
    SCALED_TO_ZERO: "`spec.replicas` is 0, or autoscaling wants no engine right now: none runs, on purpose. Where autoscaled, "
    "the next request wakes the model.",
    INSUFFICIENT_GPU: "No node has enough free GPUs of this class.",
    UNSCHEDULABLE: "No node fits for another cause than GPUs (memory, CPU, taints). The message quotes the scheduler.",
    QUOTA_EXCEEDED: "A ResourceQuota of the namespace forbids the pods.",
    VOLUME_NOT_READY: "A PersistentVolumeClaim that the spec names (the model's, the cache's, a draft's or an adapter's) does "
    "not exist, is not bound, or is where no node can be.",
    IMAGE_PULL_FAILED: "The node cannot pull an image.",
    CONTAINER_CONFIG_INVALID: "The kubelet cannot create a container: the Secret of `model.credentials`, or something that "
    "`podTemplate` names, is missing.",
    MODEL_NOT_FOUND: "There is no model at `spec.model.source`, or none of `spec.model.revision`; likewise a draft's or an "
    "adapter's. The message names the source.",
    MODEL_ACCESS_DENIED: "The model store refuses the credentials, or wants some: look at the Secret that "
    "`spec.model.credentials` names, and at what it may read.",
    MODEL_STORE_UNREACHABLE: "The model store does not answer, or breaks off again and again. The download is tried anew, and "
    "goes on where it was.",
    DISK_FULL: "The model's files have no room in the cache: raise `spec.model.cache.size`, or free or enlarge the claim.",
    MODEL_INVALID: "The files of the model, its draft or an adapter are incomplete, damaged, not those of `revision`, of "
    "another model, or of an architecture that vLLM does not know.",
    ENGINE_CONFIG_INVALID: "Something in `spec.engine` or its `extraArgs` cannot run with this model, vLLM or image.",
    ENGINE_START_FAILED: "vLLM ended before it served. The message has its last lines.",
    OUT_OF_MEMORY: "The engine ran out of memory, or was killed for it: give it more by `engine.resources`, or lower "
    "`maxModelLen` or `batching`.",
    ENGINE_CRASHED: "The engine ended by itself, and is started again. The message has its last lines.",
    ENGINE_CRASH_LOOPING: "The engine ended again and again for no cause that is known. The message has its last lines.",
    FETCHING_MODEL: "A pod downloads the model's files. `status.download` says how far it is.",
    LOADING_MODEL: "The engine reads the model and warms up.",
    ENGINE_UNHEALTHY: "The engine served before, and now fails its probe, or its node is away.",
    UPDATING: "A rollout runs: replicas serve, but not all are of the newest spec.",
    CANARY_PROGRESSING: "A changed spec is tried by one pod on a share of the requests. `status.rollout` says how far it is; "
    "see [rollouts](rollouts.md).",
    CANARY_ROLLED_BACK: "The changed spec did not do well, or was aborted by hand. The engines run on as they were. The "
    "message has the figures.",
    CREATING: "The pods are about to be made, or their nodes prepare volumes and images.",
    ROUTER_NOT_FOUND: "There is no LLMRouter of the name that `spec.routerRef` has. A router that it had before serves on.",
    ROUTER_STARTING: "No router pod is ready yet. The message names the Secrets that it waits for, where the spec names any.",
    ROUTER_CRASH_LOOPING: "The router's pods end again and again.",
    SIGNAL_MISSING: "No router is ready, so no load is known. No replica is taken away meanwhile; a model that sleeps is woken "
    "after two minutes.",
    SIGNAL_STALE: "A router is ready, and the controller does not get its reports. Likewise.",
    BUDGET_EXHAUSTED: "More replicas are wanted than the namespace's ResourceQuotas have GPUs for. As many run as fit.",
    BUDGET_UNKNOWN: "More replicas are wanted, and the namespace's ResourceQuotas cannot be read: none is added until then.",
    AUTOSCALER_INACTIVE: "The HorizontalPodAutoscaler, or KEDA, does not scale. The message quotes it. The count stays as it "
    "is.",
    KEDA_NOT_INSTALLED: "`autoscaling.actuator` is KEDA, and the cluster has no ScaledObjects. The count stays as it is.",
    KEDA_NOT_ENABLED: "`autoscaling.actuator` is KEDA, and the chart's `autoscaling.keda.enabled` is false: nobody tells KEDA "
    "of any load. The count stays as it is.",
}
