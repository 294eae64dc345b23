"""What `plan speed` is asked about: a model and how it is run, out of options or out of an LLMDeployment's file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tokenfleet.api.v1alpha1 import parse_spec
from tokenfleet.cli.errors import CliError, Unusable
from tokenfleet.cli.plan.models import read_model
from tokenfleet.errors import InvalidSpec
from tokenfleet.planning.accelerators import Accelerator, find_accelerator
from tokenfleet.planning.memory import Memory, estimate_memory
from tokenfleet.planning.model import ModelFacts
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.serving_of import CPU_KV_CACHE_BYTES, serving_of
from tokenfleet.planning.speed import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """About one replica."""

    model: ModelFacts
    serving: Serving
    name: str
    """Of the model, for people."""

    @property
    def memory(self) -> Memory | None:
        """None where the class does not tell how much it has."""
        accelerator = self.serving.accelerator
        if accelerator.memory is None and accelerator.resource is not None:
            return None
        return estimate_memory(self.model, self.serving, fixes=False)


def asked_of(
    source: str | None, file: Path | None, accelerator: str | None, *, revision: str | None, settings: Mapping[str, Any]
) -> Asked:
    """settings: fields of Serving, where there is no file. With both, the spec is the file's. Raises CliError."""
    if source is None and file is None:
        raise Unusable("Name a model, such as hf://Qwen/Qwen3-8B, or the file of an LLMDeployment by -f.")
    if file is not None:
        return _of_file(file, source, revision)
    if accelerator is None:
        raise Unusable(
            "--accelerator is missing: name a class, such as nvidia-h100-80gb; `tokenfleet accelerators` lists them."
        )
    chosen = _class(accelerator)
    model = read_model(source or "", revision=revision)
    serving = Serving(accelerator=chosen, **settings)
    if chosen.resource is None:
        serving = replace(serving, kv_cache_bytes=CPU_KV_CACHE_BYTES)
    return Asked(model=model, serving=serving, name=source or "")


def check_fits(asked: Asked, workload: Workload) -> None:
    """Raises CliError where there is nothing to be fast: the model does not fit, or the sequences are too long."""
    memory = asked.memory
    if memory is None:
        return
    serving = asked.serving
    if not memory.fits:
        raise CliError(
            f"{asked.name} does not fit on {serving.devices} × {serving.accelerator.name}: `tokenfleet plan memory` says what "
            "to change."
        )
    tokens = workload.input_tokens + workload.output_tokens
    if tokens > memory.max_model_len:
        raise Unusable(
            f"--input and --output make {tokens} tokens, and a sequence has {memory.max_model_len} at most (--max-model-len)."
        )


def _class(name: str) -> Accelerator:
    try:
        found = find_accelerator(name)
    except InvalidSpec as error:
        raise Unusable(f"{error.message}.") from error
    if found.simulated:
        raise Unusable(f"{name} runs no model: its speed is what `--timing` of the simulator says.")
    return found


def _of_file(file: Path, source: str | None, revision: str | None) -> Asked:
    """source: where the model's files are, if they cannot be read where the spec has them."""
    known = read_model(source, revision=revision) if source is not None else None
    try:
        body = yaml.safe_load(file.read_text(encoding="utf-8"))
        return _of_spec(_name(body), body["spec"], known=known)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise Unusable(f"{file} cannot be read: {error}.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"{file} is no LLMDeployment: it has no spec.") from error
    except InvalidSpec as error:
        raise Unusable(f"{file}: {error.message}.") from error


def _name(body: Mapping[str, Any]) -> str:
    return str((body.get("metadata") or {}).get("name") or "")


def _of_spec(name: str, written: Any, *, known: ModelFacts | None = None) -> Asked:
    """Raises InvalidSpec and CliError."""
    spec = parse_spec(name, written)
    accelerator = _class(spec.accelerator)
    model = known or read_model(spec.model.source, revision=spec.model.revision)
    speculative, draft = spec.engine.speculative, None
    if speculative is not None and speculative.draft_model is not None:
        draft = read_model(speculative.draft_model, revision=speculative.draft_revision)
    return Asked(model=model, serving=serving_of(spec, accelerator, draft=draft), name=spec.model.source)


def asked_of_deployment(deployment: Mapping[str, Any] | None, text: str) -> Asked:
    """An LLMDeployment as the cluster has it; with the facts that the controller found, where it did. Raises CliError."""
    if deployment is None:
        raise Unusable(f"What {text} runs is not known: name its model, or the file of its LLMDeployment by -f.")
    facts = ((deployment.get("status") or {}).get("model") or {}).get("facts")
    try:
        return _of_spec(_name(deployment), deployment["spec"], known=ModelFacts.from_json(facts) if facts else None)
    except InvalidSpec as error:
        raise CliError(f"{text}: {error.message}.") from error
