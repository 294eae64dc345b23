"""The models of tokenfleet.dev/v1alpha1: spec and status of an LLMDeployment and of an LLMRouter, each part in its module.

What a field promises works, or the field is not here. Defaults that will not change with a release stand in the models, and so
in the CRD, where `kubectl get -o yaml` shows them; what may change (images, probes, engine flags) is resolved by the
controller. Every field has a description, which `kubectl explain` shows. What both kinds say of a router stands in router.py.
"""

from tokenfleet.api.deployment import LLMDeploymentSpec, RouterRef
from tokenfleet.api.engine import Admission, Batching, Engine, EngineResources, Parallelism
from tokenfleet.api.kv_cache import KvCache
from tokenfleet.api.model import Adapter, Cache, Credentials, Model
from tokenfleet.api.parsing import NAME_RULE, PARSERS, Spec, parse_router_spec, parse_spec
from tokenfleet.api.pods import Canary, Disaggregation, Drain, PodTemplate, Prefill, Rollout, TemplateMetadata
from tokenfleet.api.router import Router
from tokenfleet.api.routes import LLMRouterSpec, Route, Target
from tokenfleet.api.scaling import Autoscaling, ScaleDown, Schedule, Slo
from tokenfleet.api.speculative import PromptLookup, Speculative
from tokenfleet.api.status import Condition, Download, Failure, LLMDeploymentStatus, LLMRouterStatus

__all__ = [
    "NAME_RULE",
    "PARSERS",
    "Adapter",
    "Admission",
    "Autoscaling",
    "Batching",
    "Cache",
    "Canary",
    "Condition",
    "Credentials",
    "Disaggregation",
    "Download",
    "Drain",
    "Engine",
    "EngineResources",
    "Failure",
    "KvCache",
    "LLMDeploymentSpec",
    "LLMDeploymentStatus",
    "LLMRouterSpec",
    "LLMRouterStatus",
    "Model",
    "Parallelism",
    "PodTemplate",
    "Prefill",
    "PromptLookup",
    "Rollout",
    "Route",
    "Router",
    "RouterRef",
    "ScaleDown",
    "Schedule",
    "Slo",
    "Spec",
    "Speculative",
    "Target",
    "TemplateMetadata",
    "parse_router_spec",
    "parse_spec",
]
