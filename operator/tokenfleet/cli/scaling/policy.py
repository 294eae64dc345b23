"""The policy of a replay: an LLMDeployment's own, or one put together from options; where both are given, options win."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tokenfleet import contract
from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.cli.errors import Unusable
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.scaling import Policy, policy_of


def chosen_policy(file: Path | None, options: Mapping[str, Any]) -> Policy:
    """options: fields of Policy; None: not said."""
    said = {name: value for name, value in options.items() if value is not None}
    if file is None and "max_replicas" not in said:
        raise Unusable("There is no policy: name an LLMDeployment's YAML with --policy, or give --max-replicas.")
    policy = Policy(min_replicas=1, max_replicas=1) if file is None else _read(file)
    if "min_replicas" not in said and said.get("scale_to_zero_seconds"):
        said["min_replicas"] = 0
    policy = replace(policy, **said)
    if policy.min_replicas > policy.max_replicas:
        raise Unusable(f"--min-replicas {policy.min_replicas} is above --max-replicas {policy.max_replicas}.")
    if not policy.min_replicas and policy.scale_to_zero_seconds is None:
        raise Unusable("--min-replicas 0 needs --scale-to-zero-after: after how many seconds without a request?")
    return policy


def _read(file: Path) -> Policy:
    try:
        documents = list(yaml.safe_load_all(file.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"--policy {file} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise Unusable(f"--policy {file} is no YAML: {error}") from error
    found = [one for one in documents if isinstance(one, dict) and one.get("kind") == contract.KIND]
    autoscaled = [one for one in found if isinstance(one.get("spec"), dict) and one["spec"].get("autoscaling")]
    if len(autoscaled) != 1:
        what = f"{len(autoscaled)} LLMDeployments with spec.autoscaling"
        raise Unusable(f"--policy {file} has {what}: name a file with exactly one.")
    (document,) = autoscaled
    try:
        policy = policy_of(parse_spec((document.get("metadata") or {}).get("name") or "unnamed", document["spec"]))
        assert policy is not None
    except InvalidSpec as error:
        raise Unusable(f"--policy {file}: {error}") from error
    return policy
