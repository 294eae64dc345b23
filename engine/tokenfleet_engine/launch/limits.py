"""What the flags ask of the model: a longer context than it has, cards that do not divide it, a sequence that finds no room.

vLLM finds each of these out for itself, half a minute later, and each is certain from config.json and the flags alone. A check
refuses only what vLLM 0.32 refuses too; where it is not sure it is silent.
"""

import os
from collections.abc import Mapping
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.launch.flags import Known
from tokenfleet_engine.launch.model_config import PLAIN_ATTENTION, cache_elements_per_token, longest_sequence, number
from tokenfleet_engine.launch.model_files import Model
from tokenfleet_engine.launch.user_flags import UserFlags

_DECIMAL: Final = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY: Final = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_ELEMENT_BYTES: Final = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
_CPU_BLOCK: Final = 128
"""Tokens of a KV block on a CPU, unless --block-size says otherwise."""


def check_limits(model: Model, *, user: UserFlags, known: Known | None, environment: Mapping[str, str] = os.environ) -> None:
    """Raises EngineFailure. What may change the model's configuration on its way to vLLM silences all of it."""
    if user.has("--hf-overrides"):
        return
    _check_architecture(model, user=user, known=known)
    _check_shapes(model)
    _check_context(model, user=user, environment=environment)
    _check_cards(model, user=user)


def check_room(model: Model, *, cache_bytes: int, user: UserFlags) -> None:
    """One sequence of the longest kind has to fit into a KV cache of so many bytes."""
    element = _element_bytes(model, user)
    elements = cache_elements_per_token(model.config, architecture=model.architecture)
    wanted = max_model_len(user) or (longest_sequence(model.config) if not user.has("--max-model-len") else None)
    apart = any(count(user.value(name)) not in (None, 1) for name in ("--tensor-parallel-size", "--pipeline-parallel-size"))
    if not (element and elements and wanted) or apart or user.has("--hf-overrides"):
        return
    per_token = element * elements
    if wanted * per_token <= cache_bytes:
        return
    block = count(user.value("--block-size")) or _CPU_BLOCK
    fits = max(0, cache_bytes // (per_token * block) - 1) * block  # vLLM keeps one block back
    fix = f"Set maxModelLen to {fits} or less, or give" if fits else "Give"
    raise EngineFailure(
        contract.REASON_OUT_OF_MEMORY,
        f"One sequence of {wanted} tokens needs {_mib(wanted * per_token)} of KV cache, and there is {_mib(cache_bytes)}. "
        f"{fix} the pod more memory (engine.resources, or --kv-cache-memory-bytes where extraArgs sets it).",
    )


def max_model_len(user: UserFlags) -> int | None:
    """What --max-model-len says; None where it leaves the length to vLLM."""
    return count(user.value("--max-model-len"))


def count(text: str | None) -> int | None:
    """A positive number as vLLM reads one: 4096, 4k, 4K."""
    if not text:
        return None
    factor = _DECIMAL.get(text[-1]) or _BINARY.get(text[-1]) or 1
    digits = text[:-1] if factor > 1 else text
    try:
        value = int(float(digits) * factor)
    except (ValueError, OverflowError):
        return None
    return value if value > 0 else None


def _check_architecture(model: Model, *, user: UserFlags, known: Known | None) -> None:
    own_code = user.has("--trust-remote-code") or user.has("--model-impl") or "auto_map" in model.config
    if known is None or own_code or known.may_run(model.architecture):
        return
    if last := known.dropped.get(model.architecture):
        hint = f"vLLM dropped it after {last}. Choose another model, or an engine image with that vLLM."
    else:
        hint = "Choose another model, or an engine image with a vLLM that knows it."
    raise EngineFailure(
        contract.REASON_MODEL_INVALID,
        f"vLLM {known.version} does not know the architecture {model.architecture} of {model.path}. {hint}",
    )


def _check_shapes(model: Model) -> None:
    """vLLM cuts what is larger than config.json says to its size, and serves nonsense without a word."""
    if model.architecture not in PLAIN_ATTENTION or "quantization_config" in model.config or not model.shapes:
        return
    said = {
        "vocab_size": model.shapes.get("model.embed_tokens.weight", ())[:1],
        "hidden_size": model.shapes.get("model.embed_tokens.weight", ())[1:],
        "intermediate_size": model.shapes.get("model.layers.0.mlp.gate_proj.weight", ())[:1],
    }
    layers = len({tensor.split(".")[2] for tensor in model.shapes if tensor.startswith("model.layers.")})
    if layers < (number(model.config, "num_hidden_layers") or 0):
        said["num_hidden_layers"] = (layers,)
    for name, held in said.items():
        value = number(model.config, name)
        if value and held and held != (value,):
            raise EngineFailure(
                contract.REASON_MODEL_INVALID,
                f"config.json and the weights in {model.path} belong to different models: {name} is {value} in the one and "
                f"{held[0]} in the others. Copy them all from one.",
            )


def _check_context(model: Model, *, user: UserFlags, environment: Mapping[str, str]) -> None:
    wanted, longest = max_model_len(user), longest_sequence(model.config)
    allowed = environment.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0") not in ("", "0", "false", "False")
    if wanted and longest and wanted > longest and not allowed:
        raise _refused(
            f"maxModelLen is {wanted}, and {model.path} was made for sequences of {longest} tokens at most. Set maxModelLen to "
            f"{longest} or less."
        )


def _check_cards(model: Model, *, user: UserFlags) -> None:
    """vllm/config/model.py:verify_with_parallel_config."""
    cards, heads = count(user.value("--tensor-parallel-size")), number(model.config, "num_attention_heads")
    if cards and heads and heads % cards:
        fitting = [each for each in range(1, heads + 1) if heads % each == 0 and each <= 2 * cards]
        raise _refused(
            f"parallelism.tensor is {cards}, and the model's {heads} attention heads do not divide by it. "
            f"Set it to one of {', '.join(map(str, fitting))}."
        )


def _element_bytes(model: Model, user: UserFlags) -> int | None:
    """Of one number in the KV cache, or the least that it may be: left alone, vLLM keeps float32 models in 16 bits."""
    kept = user.value("--kv-cache-dtype")
    if kept not in (None, "auto"):
        return 1 if kept.startswith("fp8") else _ELEMENT_BYTES.get(kept)
    asked = user.value("--dtype")
    if asked not in (None, "auto"):
        return _ELEMENT_BYTES.get(asked)
    return 2 if model.dtype in _ELEMENT_BYTES else None


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def _refused(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, message)
