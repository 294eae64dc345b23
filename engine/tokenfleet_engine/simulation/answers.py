"""Answers in vLLM's shapes, field by field, in its order: whole ones as objects, streamed ones as bytes.

A stream's events are put together from text, since one is sent for every token: what is the same in all of them is made once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tokenfleet_engine.simulation.choices import Delta

VERSION: Final = "0.32.0+simulated"
"""The vLLM whose answers these are."""
FINGERPRINT: Final = f"vllm-{VERSION}"
DONE: Final = b"data: [DONE]\n\n"

_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Ended:
    """One choice, as it is when nothing more comes."""

    text: str
    last: Delta
    token_ids: list[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What all events and the whole of an answer begin with."""

    id: str
    created: int
    model: str
    chat: bool

    def fields(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "total_tokens": total, "completion_tokens": completion_tokens}


def whole(heading: Heading, ended: Sequence[Ended], *, counted: dict[str, Any], prompt_ids: list[int] | None) -> bytes:
    counted = {**counted, "prompt_tokens_details": None, "completion_tokens_details": None}
    rest: dict[str, Any] = {"service_tier": None, "system_fingerprint": FINGERPRINT, "usage": counted}
    if heading.chat:
        rest |= {"prompt_logprobs": None, "prompt_token_ids": prompt_ids, "prompt_text": None}
    rest |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
    choice = _chat_choice if heading.chat else _completion_choice
    choices = [choice(index, each, prompt_ids) for index, each in enumerate(ended)]
    kind = "chat.completion" if heading.chat else "text_completion"
    return _dump({**heading.fields(kind), "choices": choices, **rest}).encode()


def _completion_choice(index: int, ended: Ended, prompt_ids: list[int] | None) -> dict[str, Any]:
    return {
        "index": index, "text": ended.text, "logprobs": None, "finish_reason": ended.last.finish,
        "stop_reason": ended.last.stop, "token_ids": ended.token_ids, "prompt_logprobs": None,
        "prompt_token_ids": prompt_ids, "routed_experts": None,
    }  # fmt: skip


def _chat_choice(index: int, ended: Ended, _: object) -> dict[str, Any]:
    message = dict.fromkeys(("role", "content", "refusal", "annotations", "audio", "function_call", "reasoning"))
    message |= {"role": "assistant", "content": ended.text}
    return {
        "index": index, "message": message, "logprobs": None, "finish_reason": ended.last.finish,
        "stop_reason": ended.last.stop, "token_ids": ended.token_ids, "routed_experts": None,
    }  # fmt: skip


class Events:
    """The events of one streamed answer."""

    def __init__(self, heading: Heading, *, include_usage: bool, continuous_usage: bool) -> None:
        self._chat = heading.chat
        self._include_usage = include_usage
        self._continuous = continuous_usage
        self._fields = heading.fields("chat.completion.chunk" if heading.chat else "text_completion")
        self._head = f"data: {_dump(self._fields)[:-1]},"

    def opening(self, index: int, *, prompt_tokens: int, prompt_ids: list[int] | None) -> bytes:
        """A chat's first event of each choice."""
        choice = {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        rest = {"prompt_token_ids": prompt_ids, "prompt_text": None}
        choices = f'"choices":[{_dump(choice)}]{self._usage(prompt_tokens, 0)},{_dump(rest)[1:-1]}'
        return f"{self._head}{choices}}}\n\n".encode()

    def delta(
        self, delta: Delta, *, prompt_tokens: int, prompt_ids: list[int] | None = None, token_ids: list[int] | None = None
    ) -> bytes:
        finish = f'"{delta.finish}"' if delta.finish else "null"
        stop = "null" if delta.stop is None else _dump(delta.stop)
        ids = "null" if token_ids is None else _dump(token_ids)
        content = _dump(delta.text)
        if self._chat:
            stopped = f',"stop_reason":{stop}' if delta.finish else ""
            body = f'"delta":{{"content":{content}}},"logprobs":null,"finish_reason":{finish}{stopped},"token_ids":{ids}'
        else:
            prompt = "null" if prompt_ids is None else _dump(prompt_ids)
            body = (
                f'"text":{content},"logprobs":null,"finish_reason":{finish},"stop_reason":{stop},'
                f'"prompt_token_ids":{prompt},"token_ids":{ids}'
            )
        last = f',"system_fingerprint":"{FINGERPRINT}"' if delta.finish and not self._include_usage else ""
        counted = self._usage(prompt_tokens, delta.tokens)
        return f'{self._head}"choices":[{{"index":{delta.index},{body}}}]{last}{counted}}}\n\n'.encode()

    def closing(self, *, prompt_tokens: int, completion_tokens: int) -> bytes:
        counted = b""
        if self._include_usage:
            end = {"choices": [], "usage": usage(prompt_tokens, completion_tokens), "system_fingerprint": FINGERPRINT}
            counted = f"data: {_dump({**self._fields, **end})}\n\n".encode()
        return counted + DONE

    def _usage(self, prompt_tokens: int, completion_tokens: int) -> str:
        if not self._continuous:
            return ""
        details = {"completion_tokens_details": None} if self._chat else {}
        return f',"usage":{_dump(usage(prompt_tokens, completion_tokens) | details)}'
