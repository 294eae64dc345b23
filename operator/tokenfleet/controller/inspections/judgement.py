"""Whether a model fits where it is to run: ModelFits and status.memory, from the facts and the spec alone. Pure.

Planning counts; here its figures become words. What it cannot count never blocks: Unknown says why.
"""

from dataclasses import dataclass

from tokenfleet.api import conditions
from tokenfleet.api.conditions import Verdict
from tokenfleet.api.v1alpha1 import LLMDeploymentSpec
from tokenfleet.controller.inspections.figures import quantity, size
from tokenfleet.controller.inspections.subject import Known
from tokenfleet.controller.observed import Json
from tokenfleet.controller.wording import sentence
from tokenfleet.planning.accelerators import Accelerator
from tokenfleet.planning.memory import estimate_memory
from tokenfleet.planning.memory.memory import Memory
from tokenfleet.planning.serving import Serving
from tokenfleet.planning.serving_of import serving_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    verdict: Verdict
    memory: Json | None = None
    """As status.memory; None: it cannot be told."""

    @property
    def fits(self) -> bool:
        """Or may: nobody can tell that it does not."""
        return self.verdict.status != "False"


def judge(spec: LLMDeploymentSpec, accelerator: Accelerator, known: Known) -> Judgement:
    """Of one replica."""
    if known.facts is None:
        return Judgement(verdict=unknown(conditions.MODEL_UNKNOWN, _strange(known)))
    if accelerator.resource is not None and accelerator.memory is None:
        return Judgement(verdict=unknown(conditions.ACCELERATOR_UNKNOWN, _unmeasured(accelerator)))
    serving = serving_of(spec, accelerator, draft=known.draft)
    memory = estimate_memory(known.facts, serving)
    verdict = _fits(memory, serving) if memory.fits else _exceeds(memory, serving)
    return Judgement(verdict=verdict, memory=_as_status(memory, serving))


def unknown(reason: str, message: str) -> Verdict:
    return Verdict(status="Unknown", reason=reason, message=message)


def _strange(known: Known) -> str:
    return f"What memory the model needs cannot be told: {sentence(known.unknown)} The engine is started, and will say."


def _unmeasured(accelerator: Accelerator) -> str:
    return (
        f"How much memory a GPU of class {accelerator.name} has is not known, so neither is whether the model fits. The engine "
        "is started, and will say. Name the GPU's own class in spec.accelerator to have it told before."
    )


def _fits(memory: Memory, serving: Serving) -> Verdict:
    message = (
        f"Weights take {_weights(memory, serving)}; the KV cache holds {memory.kv_tokens:,} tokens: "
        f"{int(memory.max_concurrency):,} sequences of {memory.max_model_len:,}."
    )
    return Verdict(status="True", reason=conditions.AS_EXPECTED, message=message)


def _exceeds(memory: Memory, serving: Serving) -> Verdict:
    """What takes how much, of the fullest device."""
    each = "" if serving.devices == 1 else f" of each of {serving.devices} devices"
    bound = f"may take {size(memory.usable)}{each}, and " if memory.usable else ""
    parts = {
        "weights": memory.weights,
        "the draft": memory.draft,
        "adapters": memory.adapters,
        "activations": memory.activations,
        "CUDA graphs": memory.graphs,
        "the runtime": memory.runtime,
    }
    taken = ", ".join(f"{size(count)} for {name}" for name, count in parts.items() if count)
    left = f"{size(memory.kv_cache)} are for the KV cache" if memory.kv_cache else "Nothing is left for the KV cache"
    message = (
        f"The model does not fit. The engine {bound}needs {taken}. {left}, and {size(memory.shortage)} are missing for one "
        f"sequence of {memory.max_model_len:,} tokens. {_fixes(memory)}"
    )
    return Verdict(status="False", reason=conditions.DOES_NOT_FIT, message=message)


def _fixes(memory: Memory) -> str:
    if not memory.fixes:
        return "Choose a larger spec.accelerator."
    words = ", or ".join(memory.fixes)
    return f"{words[0].upper()}{words[1:]}."


def _weights(memory: Memory, serving: Serving) -> str:
    taken = size((memory.weights + memory.draft) * serving.devices)
    return f"{taken} of {size(memory.device * serving.devices)}" if memory.device else taken


def _as_status(memory: Memory, serving: Serving) -> Json:
    return {
        "weights": quantity((memory.weights + memory.draft) * serving.devices),
        "kvCache": quantity(memory.kv_cache * serving.devices),
        "kvTokens": memory.kv_tokens,
        "maxConcurrency": int(memory.max_concurrency),
    }
