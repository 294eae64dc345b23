"""What a canary makes of the engines' Deployments: one more Deployment of one pod, and a template that the others keep.

The canary's pod is like any other of the engines, so their Service and NetworkPolicy cover it; its label tells routers its
share. The others' selector, which cannot change, matches it too: that it has another controller keeps it
apart, as Kubernetes' controllers never touch what belongs to another one.
"""

import copy
import json
from typing import Final

from tokenfleet import contract
from tokenfleet.controller.observed import Json
from tokenfleet.controller.resources.metadata import canary_name

_TRACK: Final = {contract.LABEL_TRACK: contract.TRACK_CANARY}


def build_canary_deployment(engines: Json, *, owner: str) -> Json:
    """Of the pod that tries what `engines`, the Deployment as it is to become, asks for.

    Where the spec changes once more, its pod goes before the next one comes: a canary asks for one replica's GPUs, never two.
    """
    made = copy.deepcopy(engines)
    metadata, spec = made["metadata"], made["spec"]
    metadata["name"] = canary_name(owner)
    metadata["labels"] = {**metadata["labels"], **_TRACK}
    spec["replicas"] = 1
    spec["selector"]["matchLabels"] |= _TRACK
    spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    spec["template"]["metadata"]["labels"] |= _TRACK
    return made


def with_template(child: Json, template: Json) -> Json:
    """The Deployment with this template, which it also remembers, for when the spec's becomes another one."""
    annotations = {**(child["metadata"].get("annotations") or {}), contract.ANNOTATION_TEMPLATE: _written(template)}
    metadata, spec = {**child["metadata"], "annotations": annotations}, {**child["spec"], "template": template}
    return {**child, "metadata": metadata, "spec": spec}


def remembered_template(live: Json) -> Json | None:
    """What with_template wrote; None: nothing, or nothing that can be read."""
    text = (live["metadata"].get("annotations") or {}).get(contract.ANNOTATION_TEMPLATE)
    try:
        template = json.loads(text) if text else None
    except ValueError:
        return None
    readable = isinstance(template, dict) and isinstance(template.get("metadata"), dict) and "spec" in template
    return template if readable else None


def live_template(live: Json) -> Json:
    """What stands there, with all that others and the API server added: applied as it is, it changes no pod."""
    template = copy.deepcopy(live["spec"]["template"])
    template["metadata"] = {key: value for key, value in template["metadata"].items() if value is not None}
    return dict(template)


def restarted(template: Json, *, like: Json) -> Json:
    """The template, with the restart that `like` asks for: one that is asked for rolls the pods as they are."""
    asked = (like["metadata"].get("annotations") or {}).get(contract.ANNOTATION_RESTARTED)
    annotations = dict(template["metadata"].get("annotations") or {})
    annotations.pop(contract.ANNOTATION_RESTARTED, None)
    if asked is not None:
        annotations[contract.ANNOTATION_RESTARTED] = asked
    metadata = {key: value for key, value in template["metadata"].items() if key != "annotations"}
    return {**template, "metadata": {**metadata, **({"annotations": annotations} if annotations else {})}}


def _written(template: Json) -> str:
    return json.dumps(template, sort_keys=True, separators=(",", ":"))
