"""Why the scheduler has no node for a pod, read from its own words: no GPU, no volume, or something else.

The words are the scheduler's and stable for years: "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: …".
What it says about preemption is left out, since it is about other pods.
"""

from tokenfleet.api import conditions
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller import pods
from tokenfleet.controller.observed import Json
from tokenfleet.controller.verdicts import spec_names
from tokenfleet.controller.verdicts.scene import ROUTER, Scene, Trouble
from tokenfleet.planning.accelerators import accelerators

ORDER = (conditions.INSUFFICIENT_GPU, conditions.VOLUME_NOT_READY, conditions.UNSCHEDULABLE)
"""Of several pods with several causes, the first of these is told."""

_NO_SUCH_NODE = "didn't match Pod's node affinity"
_VOLUME = ("persistentvolumeclaim", "persistent volume", "volume node affinity", "volume count")


def explain(scene: Scene, pod: Json) -> Trouble | None:
    """(reason, message) of a pod that the scheduler could not place; None of one that it did, or has not looked at."""
    condition = pods.condition(pod, "PodScheduled") or {}
    if condition.get("status") != "False":
        return None
    words = (condition.get("message") or condition.get("reason") or "no reason given").partition(" preemption:")[0].rstrip(". ")
    if scene.role is not ROUTER and _is_about_gpus(scene, words):
        return conditions.INSUFFICIENT_GPU, _gpus(scene, words)
    if any(word in words.lower() for word in _VOLUME):
        return conditions.VOLUME_NOT_READY, _volume(scene, words)
    describe = scene.kubectl(f"describe pod {pod['metadata']['name']}")
    labels = "" if scene.role is ROUTER else _nodes(scene)
    return conditions.UNSCHEDULABLE, (
        f"No node takes a pod{labels}: {words}. Add room, or change spec.engine.resources, or nodeSelector and tolerations by "
        f"spec.podTemplate; {describe} shows what it asks for."
    )


def _is_about_gpus(scene: Scene, words: str) -> bool:
    """Either a node lacks free GPUs, or no node is of the class at all."""
    accelerator = accelerators().get(_class(scene))
    if accelerator is None or accelerator.resource is None:
        return "Insufficient nvidia.com/gpu" in words
    if f"Insufficient {accelerator.resource}" in words:
        return True
    return bool(accelerator.products or accelerator.node_labels) and _NO_SUCH_NODE in words and "Insufficient" not in words


def _gpus(scene: Scene, words: str) -> str:
    parallelism = scene.spec.parallelism.gpus if isinstance(scene.spec, LLMDeploymentSpec) else 1
    count = f"{parallelism} free GPU{'s' if parallelism > 1 else ''}"
    spare = " To roll out without a spare one, set spec.rollout to maxSurge 0 and maxUnavailable 1." if scene.serves else ""
    return (
        f"No node has {count} of class {_class(scene)}{_nodes(scene)} for a replica: {words}. "
        f"Free or add such a node, or change spec.accelerator, spec.parallelism or spec.replicas.{spare}"
    )


def _nodes(scene: Scene) -> str:
    """What else the class asks of a node than its GPU."""
    accelerator = accelerators().get(_class(scene))
    labels = [f"{label}={value}" for label, value in sorted(accelerator.node_labels.items())] if accelerator else []
    return f" ({', '.join(labels)})" if labels else ""


def _volume(scene: Scene, words: str) -> str:
    """Says which field names the volume: the scheduler quotes a claim only where that one does not exist."""
    named = spec_names.claims(scene.observed.owner)
    quoted = {claim: fields for claim, fields in named.items() if f'"{claim}"' in words}
    if not named or ('"' in words and not quoted):
        return (
            f"A volume that spec.podTemplate adds cannot be used: {words}. {scene.kubectl('get pvc')} shows what there is; "
            "create it, or change that."
        )
    meant = quoted or named
    fields = " or ".join(field for fields in meant.values() for field in fields)
    state = scene.kubectl(f"describe pvc {' '.join(meant)}")
    return f"The volume of {fields} cannot be used: {words}. {state} shows its state; create it, or change {fields}."


def _class(scene: Scene) -> str:
    return str((scene.observed.owner.get("spec") or {}).get("accelerator", ""))
