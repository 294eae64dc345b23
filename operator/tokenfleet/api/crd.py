"""From the pydantic models to the CustomResourceDefinitions, as structural schemas that the API server takes.

`python -m tokenfleet.api.crd` writes it to crds/ and into the Helm chart; a test compares both with what the models say.
pydantic speaks JSON Schema with $refs, anyOf-null and titles; a structural schema has none of these. Nothing else is
translated, so a construct that this module does not know fails loudly instead of being dropped.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tokenfleet import contract
from tokenfleet.api.parsing import OBJECT_RULES
from tokenfleet.api.rules import Rule, Ruled
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec, LLMDeploymentStatus, LLMRouterSpec, LLMRouterStatus

_KEPT = frozenset(
    {"type", "description", "default", "enum", "format", "pattern", "properties", "required", "items", "additionalProperties"}
    | {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"}
    | {"x-kubernetes-list-type", "x-kubernetes-list-map-keys"}
)
_DROPPED = frozenset({"title", "examples", "$defs"})


def schema_of(model: type[Ruled]) -> dict[str, Any]:
    """The structural schema of `model`, with its rules and those of the models inside."""
    document = model.model_json_schema(by_alias=True)
    return _structural(document, document.get("$defs", {}), _rules_by_title(model))


def _rules_by_title(model: type[Ruled]) -> dict[str, tuple[Rule, ...]]:
    """The rules of `model` and of every model that it could hold, by class name, which is pydantic's `title`."""
    return {each.__name__: each.rules for each in (*Ruled.__subclasses__(), model)}


def _structural(node: dict[str, Any], definitions: dict[str, Any], rules: dict[str, tuple[Rule, ...]]) -> dict[str, Any]:
    if "$ref" in node:
        node = {**definitions[node["$ref"].rpartition("/")[2]], **{k: v for k, v in node.items() if k != "$ref"}}
    if "anyOf" in node:
        (present,) = [option for option in node["anyOf"] if option != {"type": "null"}]
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _structural({**present, **rest}, definitions, rules)
    if unknown := node.keys() - _KEPT - _DROPPED - {"const"}:
        raise TypeError(f"crd.py cannot translate {sorted(unknown)} of {node.get('title')}")
    result: dict[str, Any] = {key: value for key, value in node.items() if key in _KEPT}
    if node.get("type") == "object":
        result |= _object(node, definitions, rules)
    if "items" in node:
        result["items"] = _structural(node["items"], definitions, rules)
    return result


def _object(node: dict[str, Any], definitions: dict[str, Any], rules: dict[str, tuple[Rule, ...]]) -> dict[str, Any]:
    """What is particular to objects: closed ones get properties and rules, maps of strings a type, and the rest is open."""
    result: dict[str, Any] = {}
    if "properties" in node:
        result["properties"] = {name: _structural(value, definitions, rules) for name, value in node["properties"].items()}
        if "default" in node:
            result["default"] = node["default"]  # whole: the API server tries the rules on it before it fills in what is inside
        if own := rules.get(node.get("title", ""), ()):
            result["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in own]
        result["additionalProperties"] = None
    elif isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(node["additionalProperties"], definitions, rules)
    elif node.get("additionalProperties") is True:
        result["x-kubernetes-preserve-unknown-fields"] = True
        result["additionalProperties"] = None
    return result


def _without_none(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_none(value) for key, value in node.items() if value is not None}
    return [_without_none(item) for item in node] if isinstance(node, list) else node


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What differs between the kinds."""

    name: str
    plural: str
    singular: str
    short_name: str
    description: str
    spec: type[Ruled]
    status: type[Ruled]
    columns: tuple[tuple[str, str, str, int, str], ...]
    """(name, type, JSONPath, priority, description): priority 1 is shown by `-o wide` alone."""


_READY = ("Ready", "string", ".status.ready", 0, "Ready replicas of those wanted.")
_REASON = ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0, "Why it is ready, or not.")
_AGE = ("Age", "date", ".metadata.creationTimestamp", 0, "Since its creation.")
_URL = ("URL", "string", ".status.url", 1, "Base URL of the API.")

LLM_DEPLOYMENT = Kind(
    name=contract.KIND,
    plural=contract.PLURAL,
    singular=contract.SINGULAR,
    short_name=contract.SHORT_NAME,
    description="A large language model, served by a fleet of engines behind a router.",
    spec=LLMDeploymentSpec,
    status=LLMDeploymentStatus,
    columns=(
        ("Model", "string", ".spec.model.source", 0, "Where the model's files are."),
        _READY,
        ("Queue", "integer", ".status.queueDepth", 0, "Requests that wait."),
        _REASON,
        _AGE,
        ("In flight", "integer", ".status.inFlight", 1, "Requests that are being answered."),
        ("Accelerator", "string", ".spec.accelerator", 1, "What a replica runs on."),
        ("$/H", "string", ".status.cost.hourly", 1, "What the engines cost in an hour."),
        _URL,
    ),
)
LLM_ROUTER = Kind(
    name=contract.ROUTER_KIND,
    plural=contract.ROUTER_PLURAL,
    singular=contract.ROUTER_SINGULAR,
    short_name=contract.ROUTER_SHORT_NAME,
    description="A router that many LLMDeployments of its namespace share: one address for all their models.",
    spec=LLMRouterSpec,
    status=LLMRouterStatus,
    columns=(("Models", "string", ".status.models", 0, "What requests may give as `model`."), _READY, _REASON, _AGE, _URL),
)
KINDS = (LLM_DEPLOYMENT, LLM_ROUTER)


def custom_resource_definition(kind: Kind) -> dict[str, Any]:
    """The CRD of a kind, as one would `kubectl apply` it."""
    schema = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema_of(kind.spec) | {"description": "What the user wants."},
            "status": schema_of(kind.status) | {"description": "What is: written by the controller alone."},
        },
        "x-kubernetes-validations": [{"rule": rule.cel, "message": rule.message} for rule in OBJECT_RULES[kind.name]],
    }
    version = {
        "name": contract.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _without_none(schema)},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": name, "type": type_, "jsonPath": path, "description": text} | ({"priority": priority} if priority else {})
            for name, type_, path, priority, text in kind.columns
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{contract.GROUP}"},
        "spec": {
            "group": contract.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short_name],
                "categories": ["llm", "all"],
            },
            "versions": [version],
        },
    }


def custom_resource_definitions() -> list[dict[str, Any]]:
    """The CRDs of all kinds."""
    return [custom_resource_definition(kind) for kind in KINDS]


HEADER = "# Written by `make crds` from operator/tokenfleet/api; do not edit.\n"


def plain_yaml(kind: Kind) -> str:
    """The CRD for `kubectl apply --server-side -f crds/`."""
    return HEADER + yaml.safe_dump(custom_resource_definition(kind), sort_keys=False, width=120)


def chart_template() -> str:
    """The CRDs as a template of the Helm chart: installed while crds.enabled, kept at uninstall while crds.keep."""
    documents = "---\n".join(_templated(kind) for kind in KINDS)
    return f"{{{{- if .Values.crds.enabled }}}}\n{HEADER}{documents}{{{{- end }}}}\n"


def _templated(kind: Kind) -> str:
    document = custom_resource_definition(kind)
    document["metadata"]["annotations"] = {"PLACEHOLDER": ""}
    text = yaml.safe_dump(document, sort_keys=False, width=120)
    keep = "    {{- if .Values.crds.keep }}\n    helm.sh/resource-policy: keep\n    {{- end }}\n"
    labels = '  labels:\n    {{- include "tokenfleet.labels" . | nindent 4 }}\n'
    return text.replace("  annotations:\n    PLACEHOLDER: ''\n", f"  annotations:\n{keep}{labels}")


def main() -> None:
    """Write all files below the repository's root, which is the current directory."""
    targets = {Path("crds") / f"{kind.plural}.yaml": plain_yaml(kind) for kind in KINDS}
    targets[Path("charts/tokenfleet/templates") / "crds.yaml"] = chart_template()
    for path, text in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
