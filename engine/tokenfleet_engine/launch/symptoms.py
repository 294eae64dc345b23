"""Reads why vLLM ended from its last lines and exit code: an ordered table of its words, the first that fits decides.

The lines are vLLM's and may change with a release; what no row knows is EngineStartFailed with the last error as it stands,
so a change costs a better reason, never the message. Must not guess: each row is a sentence that vLLM or torch prints.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure

_PREFIX: Final = re.compile(
    r"^(?:\([^)]*pid=\d+\)\s*)*(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\s+\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?\s+\[[^\]]*\]\s*)?"
)
"""What vLLM's logger puts before a line: process, level, time, source."""
_CHATTER: Final = re.compile(r"^(?:\([^)]*pid=\d+\)\s*)*(?:DEBUG|INFO|WARNING)\s")
"""What vLLM says of itself while all is well: it quotes flags and limits, and is no symptom."""
_ERROR: Final = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Za-z_]\w*(?:Error|Exception|Interrupt)\b\s*:?\s*(?P<text>.*)$")
_PROGRAM: Final = re.compile(r"^(?:[\w.]*Error: |Value error, |Assertion failed, |\S+\.py: error: )+")
_WRAPPED: Final = re.compile(r"^.*Worker failed with error ['\"](?P<text>.*)['\"], please check the stack trace above.*$")
"""What a worker said, in the words of the process that it told."""
LONGEST: Final = 400
_FOLLOWS: Final = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "See root cause above",
    "EngineDeadError",
)
"""Errors that only say that another one came before."""

_OUT_OF_MEMORY: Final = "Give the pod more memory (engine.resources), or lower maxModelLen or batching.maxNumSeqs."
_FLAGS: Final = "Change spec.engine or its extraArgs."
_NEWER: Final = "This vLLM does not know the model: choose another, or a newer engine image."
_ADAPTER: Final = "Choose an adapter of this model, or remove it from spec.model.adapters."
_QUANTISED: Final = "Set quantization to what the weights were quantised with, or remove it."


@dataclass(frozen=True, slots=True)
class Symptom:
    words: re.Pattern[str]
    reason: str
    advice: str = ""


SYMPTOMS: Final = (
    Symptom(
        re.compile(r"error: (unrecognized arguments|argument |ambiguous option)"),
        contract.REASON_ENGINE_CONFIG_INVALID, _FLAGS,
    ),
    Symptom(
        re.compile(r"(CUDA|HIP) out of memory|OutOfMemoryError|can't allocate memory|Cannot allocate memory|MemoryError"),
        contract.REASON_OUT_OF_MEMORY, _OUT_OF_MEMORY,
    ),
    Symptom(
        re.compile(r"KV cache is needed, which is larger|No available memory for the cache|is less than (desired|requested)"),
        contract.REASON_OUT_OF_MEMORY, _OUT_OF_MEMORY,
    ),
    Symptom(
        re.compile(r"Insufficient space in /dev/shm"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Enlarge the volume at /dev/shm.",
    ),
    Symptom(
        re.compile(
            r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver"
            r"|NVIDIA driver on your system is too old"
        ),
        contract.REASON_ENGINE_START_FAILED,
        "The pod sees no GPU that it can use: check spec.engine.accelerator and the node's driver.",
    ),
    Symptom(
        re.compile(r"larger than the number of available GPUs"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Lower parallelism to what one pod has.",
    ),
    Symptom(
        re.compile(
            r"Model architectures .* (are not supported|failed to be inspected)|does not recognize this architecture"
            r"|was supported in vLLM until|is not supported in-tree anymore",
        ),
        contract.REASON_MODEL_INVALID, _NEWER,
    ),
    Symptom(
        re.compile(r"SafetensorError|HeaderTooLarge|Error while deserializing header|size mismatch for|Error\(s\) in loading"),
        contract.REASON_MODEL_INVALID, "Copy the model's files anew.",
    ),
    Symptom(
        re.compile(r"weights were not initialized from checkpoint|There is no module or parameter named"),
        contract.REASON_MODEL_INVALID, "config.json and the weights belong to different models: copy them all from one.",
    ),
    Symptom(
        re.compile(r"LoRA rank \d+ is greater than max_lora_rank"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Remove --max-lora-rank from extraArgs.",
    ),
    Symptom(
        re.compile(r"does not support LoRA yet"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Remove spec.model.adapters.",
    ),
    Symptom(
        re.compile(r"No adapter found for"),
        contract.REASON_MODEL_NOT_FOUND, "Check the source in spec.model.adapters.",
    ),
    Symptom(
        re.compile(
            r"Call to add_lora method failed|expected target modules in|vLLM does not (yet )?support (DoRA|LoRA bias)"
            r"|Missing required configuration fields|lora_dir doesn't contain tensors",
        ),
        contract.REASON_MODEL_INVALID, _ADAPTER,
    ),
    Symptom(
        re.compile(r"should have the same vocabulary size"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Choose a draftModel of the model's own family, or method ngram.",
    ),
    Symptom(
        re.compile(r"does not support EAGLE3 interface"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Use speculative method draft or ngram with this model.",
    ),
    Symptom(
        re.compile(
            r"Cannot find the config file for|does not match the quantization method specified|Unknown quantization method"
            r"|quantization method .* is deprecated|not supported for (quantization|the current GPU)"
            r"|quantization is currently not supported",
        ),
        contract.REASON_ENGINE_CONFIG_INVALID, _QUANTISED,
    ),
    Symptom(
        re.compile(r"Sleep mode is not supported"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Remove sleep: vLLM can do it on GPUs alone.",
    ),
    Symptom(
        re.compile(r"No common block size for"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Set kvCache.blockSize to a multiple of what stands there, or remove it.",
    ),
    Symptom(
        re.compile(r"No valid attention backend found|is not valid for this configuration"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Change or remove kvCache.dtype and kvCache.blockSize.",
    ),
    Symptom(
        re.compile(r"Pipeline parallelism is not supported"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Use parallelism.tensor alone with this model.",
    ),
    Symptom(
        re.compile(r"NIXL is not available"),
        contract.REASON_ENGINE_CONFIG_INVALID, "Use an engine image that has it (pip: nixl), or remove spec.disaggregation.",
    ),
    Symptom(
        re.compile(r"max_model_len|maximum model length|invalid (tool call|reasoning) parser|VLLMValidationError"),
        contract.REASON_ENGINE_CONFIG_INVALID, _FLAGS,
    ),
    Symptom(
        re.compile(r"^\s+(Value error, |Assertion failed, |Input should be )"),  # what pydantic says of a configuration
        contract.REASON_ENGINE_CONFIG_INVALID, _FLAGS,
    ),
)  # fmt: skip


def explain(lines: Iterable[str], *, status: int, served: bool, oom_kills: int) -> EngineFailure:
    """Of an engine that ended by itself. `status` is as subprocess has it: negative for a signal."""
    plain = [_PREFIX.sub("", line.rstrip()) for line in lines if not _CHATTER.match(line)]
    if oom_kills > 0:
        return EngineFailure(
            contract.REASON_OUT_OF_MEMORY, f"The kernel killed the engine at the pod's memory limit. {_OUT_OF_MEMORY}"
        )
    cause = _cause(plain)
    for symptom in SYMPTOMS:
        if match := next((line for line in reversed(plain) if symptom.words.search(line)), None):
            return EngineFailure(symptom.reason, f"vLLM says: {_sentence(match)} {symptom.advice}".strip())
    ending = f"by signal {-status}" if status < 0 else f"with exit code {status}"
    if served:
        return EngineFailure(contract.REASON_ENGINE_CRASHED, f"vLLM ended {ending} while it served. {cause}".strip())
    return EngineFailure(contract.REASON_ENGINE_START_FAILED, f"vLLM ended {ending} before it served. {cause}".strip())


def _sentence(line: str) -> str:
    """What it says, without what only programs put before it, and no longer than a person reads."""
    text = _WRAPPED.sub(r"\g<text>", line.strip())
    text = _PROGRAM.sub("", text).partition(" [type=")[0].partition(" Supported architectures: ")[0]
    if len(text) > LONGEST:
        text = f"{text[:LONGEST].rsplit(' ', 1)[0]} …"
    return text if text.endswith((".", "!", "…")) else f"{text}."


def _cause(plain: Sequence[str]) -> str:
    """The last error that is a cause of its own, else the last lines."""
    errors = [line for line in plain if _ERROR.match(line) and not any(words in line for words in _FOLLOWS)]
    if errors:
        return errors[-1]
    if any(_ERROR.match(line) for line in plain):
        return "One of its processes ended without a word: killed, or crashed in native code."
    return " ⏎ ".join(line for line in plain[-3:] if line)
