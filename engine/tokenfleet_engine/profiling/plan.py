"""Which points are measured: lengths of prompts, and batches by length of context.

What the caller asks for and the engine can never do is an error with the limit in it. Defaults are cut to what the engine
takes. A batch whose KV cache has no room is left out and named, so that a table's holes have their reasons. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure

PROMPTS: Final = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
CONTEXTS: Final = (128, 512, 2048, 8192, 32768)
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WARM_STEPS: Final = 3
"""Decode steps that are not counted, once the batch is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KVCache:
    """As the engine has divided it up. Bytes are of one worker."""

    blocks: int
    block_bytes: int
    group_tokens: tuple[int, ...]
    """Tokens in a block, for each group of layers that has its own blocks; most models have one group."""

    @property
    def bytes_per_token(self) -> float:
        return sum(self.block_bytes / tokens for tokens in self.group_tokens)

    def blocks_for(self, tokens: int) -> int:
        """Of one sequence; for layers with a sliding window an upper bound."""
        return sum(-(-tokens // size) for size in self.group_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of the engine as it runs."""

    sequence_tokens: int
    """--max-model-len: a prompt and its answer."""
    sequences: int
    """--max-num-seqs"""
    step_tokens: int
    """--max-num-batched-tokens: longer prompts take several steps."""
    cache: KVCache


@dataclass(frozen=True, slots=True)
class DecodePoint:
    sequences: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Skipped:
    point: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    prompts: tuple[int, ...]
    decode: tuple[DecodePoint, ...]
    repeat: int
    decode_steps: int
    skipped: tuple[Skipped, ...] = ()


def answer_tokens(decode_steps: int, *, filling: int = 0) -> int:
    """What a sequence must be allowed to say so that none ends early.

    The prompt's own first token, the steps while the batch fills up, the warm-up, the steps that count, and one to spare.
    """
    return 1 + filling + WARM_STEPS + decode_steps + 1


def filling_steps(point: DecodePoint, *, step_tokens: int) -> int:
    """At most, until all prompts of a batch are in: those that are, take a token of each step already."""
    tokens = point.sequences * point.context_tokens
    return -(-tokens // max(1, step_tokens - point.sequences))


def make_plan(
    limits: Limits, *, prompts: Sequence[int] | None, batches: Sequence[int] | None, contexts: Sequence[int] | None,
    repeat: int, decode_steps: int,
) -> Plan:  # fmt: skip
    """None stands for the defaults. Raises EngineFailure for what this engine can never take."""
    longest = limits.sequence_tokens
    defaults = (*PROMPTS, longest - 2) if 1.25 * PROMPTS[0] < longest - 2 < PROMPTS[-1] else PROMPTS  # the longest, if feasible
    chosen_prompts = _choose("--prompt-tokens", prompts, defaults, most=longest - 2, flag=f"--max-model-len {longest}")
    room = longest - answer_tokens(decode_steps)
    flag = f"--max-model-len {longest} less {longest - room} for the steps that are measured"
    chosen_contexts = _choose("--context", contexts, CONTEXTS, most=room, flag=flag)
    flag = f"--max-num-seqs {limits.sequences}"
    chosen_batches = _choose("--batch", batches, BATCHES, most=limits.sequences, flag=flag)
    points = [DecodePoint(batch, context) for context in chosen_contexts for batch in chosen_batches]
    points.sort(key=lambda point: (point.sequences * point.context_tokens, point.context_tokens))
    lacking = {point: _lack(limits, point, decode_steps=decode_steps) for point in points}
    return Plan(
        prompts=chosen_prompts,
        decode=tuple(point for point, reason in lacking.items() if not reason),
        repeat=repeat,
        decode_steps=decode_steps,
        skipped=tuple(Skipped(describe(point), reason) for point, reason in lacking.items() if reason),
    )


def describe(point: DecodePoint) -> str:
    return f"decode of {point.sequences} × {point.context_tokens} tokens"


def _choose(name: str, given: Sequence[int] | None, defaults: Sequence[int], *, most: int, flag: str) -> tuple[int, ...]:
    if most < 1:
        raise _invalid(f"The engine's limits leave no room for {name} ({flag}). Raise the limit behind --.")
    if given is None:
        return tuple(sorted({value for value in defaults if value <= most})) or (most,)
    beyond = [value for value in given if value > most]
    if beyond:
        raise _invalid(
            f"{name} {max(beyond)} is more than this engine takes: at most {most} ({flag}). Lower it, or raise that."
        )
    return tuple(sorted(set(given)))


def _lack(limits: Limits, point: DecodePoint, *, decode_steps: int) -> str:
    """Why the point cannot be measured, or nothing."""
    filling = filling_steps(point, step_tokens=limits.step_tokens)
    tokens = point.context_tokens + answer_tokens(decode_steps, filling=filling)
    if tokens > limits.sequence_tokens:
        return (
            f"its first sequences would be {tokens} tokens long once the last is in (--max-model-len {limits.sequence_tokens})"
        )
    needed = point.sequences * limits.cache.blocks_for(tokens)
    if needed >= limits.cache.blocks:  # vLLM keeps one block for itself
        return f"needs {needed} blocks of KV cache, and the engine has {limits.cache.blocks - 1}"
    return ""


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, message)
