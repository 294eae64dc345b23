"""What was said so far, and the request that goes on with it. Pure.

A model without a chat template cannot be asked turn by turn: then the whole conversation is one text, which it continues.
"""

from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is asked with every turn; None: as the server has it."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns, (role, text); with `plain` they are one text."""

    system: str | None = None
    turns: tuple[tuple[str, str], ...] = ()
    plain: bool = False

    def asked(self, text: str) -> "Conversation":
        return replace(self, turns=(*self.turns, ("user", text)))

    def answered(self, text: str) -> "Conversation":
        return replace(self, turns=(*self.turns, ("assistant", text)))

    def reset(self) -> "Conversation":
        return replace(self, turns=())

    @property
    def path(self) -> str:
        return "completions" if self.plain else "chat/completions"

    def request(self, settings: Settings) -> Json:
        said = ([("system", self.system)] if self.system else []) + list(self.turns)
        body: Json = {"model": settings.model, "stream": True, "stream_options": {"include_usage": True}}
        if self.plain:
            body["prompt"] = "\n".join(text for _, text in said)
        else:
            body["messages"] = [{"role": role, "content": text} for role, text in said]
        if settings.max_tokens is not None:
            body["max_tokens"] = settings.max_tokens
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        return body


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer as it comes; times by one clock, in seconds."""

    sent: float
    pieces: list[str] = field(default_factory=list)
    first: float | None = None
    last: float | None = None
    tokens: int | None = None
    """By the server's own count; None: it did not say."""
    finish: str | None = None
    """Why it ended, as the server says; None: it was broken off."""

    def take(self, event: Json, now: float) -> str:
        """The text of one event of the stream."""
        if usage := event.get("usage"):
            self.tokens = usage.get("completion_tokens")
        text = ""
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text += choice.get("text") or delta.get("content") or delta.get("reasoning") or delta.get("reasoning_content") or ""
            self.finish = choice.get("finish_reason") or self.finish
        if text:
            self.first = now if self.first is None else self.first
            self.last = now
            self.pieces.append(text)
        return text

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def ttft(self) -> float | None:
        """Seconds to the first token."""
        return None if self.first is None else self.first - self.sent

    @property
    def rate(self) -> float | None:
        """Tokens a second, from the first one on."""
        tokens = self.tokens if self.tokens is not None else len(self.pieces)
        if self.first is None or self.last is None or tokens < 2 or self.last <= self.first:
            return None
        return (tokens - 1) / (self.last - self.first)

    def figures(self) -> str:
        """For people; "" before there is anything."""
        if self.ttft is None:
            return ""
        parts = [f"first token after {self.ttft:.2f} s"]
        if self.rate is not None:
            parts.append(f"{self.rate:.1f} tokens/s")
        parts.append(f"{self.tokens} tokens" if self.tokens is not None else f"{len(self.pieces)} pieces")
        if self.finish == "length":
            parts.append("cut at the greatest length")
        return ", ".join(parts)

    def as_json(self, prompt: str) -> Json:
        body = {"prompt": prompt, "answer": self.text, "ttftSeconds": self.ttft, "tokensPerSecond": self.rate}
        body |= {"tokens": self.tokens, "finishReason": self.finish}
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in body.items()}
