"""What another replica is asked, so that it goes on where a stream was cut, and what is left to say where it need not. Pure.

A completion goes on with prompt and text as its prompt, a chat with an open message of the assistant. From where, `_resumes_at`
says; what was passed behind that place comes again and is not passed a second time (`repeated`). How many tokens the text was,
only an engine can say: it is asked once for the prompt and once for both (`questions`).
"""

from typing import Final

import msgspec

from tokenfleet.router import routes
from tokenfleet.router.callers.bounds import USUAL_COMPLETION
from tokenfleet.router.continuing.suited import Fields, Unsuited, check, says
from tokenfleet.router.continuing.transcript import UNSUITED, Transcript
from tokenfleet.router.jobs import Job
from tokenfleet.router.models import Pool
from tokenfleet.router.relay import USAGE, asks_for_usage
from tokenfleet.router.usage import Usage

_OPEN: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MESSAGES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_COUNTED: Final = ("add_special_tokens", "chat_template_kwargs", "tools")
"""What a chat's tokens depend on, beside its messages."""
_SPACES: Final = (" ", "\n", "\t")
_WORD_CHARACTERS: Final = 64
"""At most; what is longer is no word."""


class Counts(msgspec.Struct, frozen=True):
    """In tokens, as an engine counts them."""

    prompt: int
    whole: int
    """With the text so far."""
    context: int | None
    """The most that the model can have; None: it does not say."""

    @property
    def sent(self) -> int:
        return max(0, self.whole - self.prompt)


NOTHING_SENT: Final = Counts(0, 0, None)


class Sequel:
    """Of one stream, from where it was cut."""

    __slots__ = ("_fields", "_job", "_least", "_messages", "_text", "asks_usage", "chat", "counts", "repeated", "transcript")

    def __init__(self, job: Job, transcript: Transcript) -> None:
        """Raises Unsuited."""
        text = transcript.text()
        if transcript.flaw:
            raise Unsuited(transcript.flaw)
        self._job = job
        self.transcript = transcript
        self.chat = job.request.route.path == routes.CHAT
        self.asks_usage = not asks_for_usage(job)
        """The client has asked for the usage, and gets it."""
        self.counts = NOTHING_SENT
        try:
            self._fields: Fields = _OPEN.decode(job.body)
            check(self._fields, chat=self.chat)
            at = len(text) if transcript.finished else _resumes_at(text, self._fields, chat=self.chat)
            self._text, self.repeated = text[:at] + transcript.stop, text[at:]
            self._least = msgspec.json.decode(self._fields.get("min_tokens", b"0"), type=int | None) or 0
            self._messages = self._opened() if self.chat else []
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise Unsuited(UNSUITED) from error

    @property
    def questions(self) -> tuple[dict[str, object], ...]:
        """For /tokenize, but for the model: the prompt, and the prompt with the text so far. None where there is no text."""
        fields = self._fields
        if not self._text and not self.transcript.finished:
            return ()
        if not self.chat:
            return {"prompt": fields["prompt"]}, {"prompt": self._prompt()}
        shared = {name: fields[name] for name in _COUNTED if name in fields}
        first = {"messages": fields["messages"], **_opening(continues=says(fields, "continue_final_message"))}
        return {**shared, **first}, {**shared, "messages": self._messages, **_opening(continues=True)}

    def left(self, pool: Pool) -> int | None:
        """How many tokens may come yet; None: as many as there is room for."""
        most, counts = self._most(pool), self.counts
        bounds = [] if most is None else [most - counts.sent]
        if counts.context is not None:
            bounds.append(counts.context - counts.whole)
        return max(0, min(bounds)) if bounds else None

    def body(self, pool: Pool) -> bytes:
        """The request that goes on."""
        fields: dict[str, object] = {**self._fields, "model": pool.served_name}
        if not self.asks_usage:
            fields["stream_options"] = USAGE
        if (most := self._most(pool)) is not None:
            for name in ("max_tokens", "max_completion_tokens"):
                fields.pop(name, None)
            fields["max_tokens"] = max(1, most - self.counts.sent)
        if self._least:
            fields["min_tokens"] = max(0, self._least - self.counts.sent)
        if not self.chat:
            fields["prompt"] = self._prompt()
        elif self._text:
            fields |= {"messages": self._messages, **_opening(continues=True)}
        return msgspec.json.encode(fields)

    def ending(self, *, usage: Usage | None) -> bytes:
        """The events that are missing where nothing goes on."""
        transcript = self.transcript
        heading = msgspec.structs.asdict(transcript.heading) if transcript.heading is not None else {}
        events = b""
        if not transcript.finished:
            said: dict[str, object] = {"delta": {}} if self.chat else {"text": ""}
            events += _event(heading, choices=[{"index": 0, **said, "logprobs": None, "finish_reason": "length"}])
        if usage is not None and self.wants_usage:
            numbers = {"prompt_tokens": usage.prompt, "total_tokens": usage.total, "completion_tokens": usage.completion}
            events += _event(heading, choices=[], usage=numbers)
        return events + b"data: [DONE]\n\n"

    @property
    def wants_usage(self) -> bool:
        """The client is still to be told."""
        return self.asks_usage and not self.transcript.counted

    @property
    def spent(self) -> Usage:
        """What the stream has used so far."""
        return Usage(self.counts.prompt, self.counts.sent + self.transcript.ended)

    def _most(self, pool: Pool) -> int | None:
        """The bound of the whole answer, as the client, the API or the spec has it."""
        fields = self._job.fields
        if self.chat:
            said = fields.max_completion_tokens if fields.max_completion_tokens is not None else fields.max_tokens
            return said if said is not None else pool.max_tokens
        if fields.max_tokens is not None:
            return fields.max_tokens
        return USUAL_COMPLETION if pool.max_tokens is None else min(USUAL_COMPLETION, pool.max_tokens)

    def _prompt(self) -> str:
        return str(msgspec.json.decode(self._fields["prompt"], type=str)) + self._text

    def _opened(self) -> list[object]:
        """The messages, and the text so far in one that is open."""
        messages: list[object] = [*_MESSAGES.decode(self._fields["messages"])]
        if not says(self._fields, "continue_final_message"):
            return [*messages, {"role": "assistant", "content": self._text}]
        last = _OPEN.decode(_MESSAGES.decode(self._fields["messages"])[-1])
        content = str(msgspec.json.decode(last["content"], type=str))
        return [*messages[:-1], {**last, "content": content + self._text}]


def _resumes_at(text: str, fields: Fields, *, chat: bool) -> int:
    """From which place of a text to go on.

    A chat's template may drop white space at the end of a message. And where there are stop strings, an engine holds back the
    end of what it has, so that the text may end within a token: what is greedy goes on from before that word, and writes it
    again.
    """
    end = len(text.rstrip()) if chat else len(text)
    if says(fields, "stop") and msgspec.json.decode(fields.get("temperature", b"null")) == 0:
        word = max(text.rfind(space, max(0, end - _WORD_CHARACTERS), end) for space in _SPACES)
        end = word if word >= 0 else end
    return len(text[:end].rstrip()) if chat else end


def _opening(*, continues: bool) -> dict[str, object]:
    """Whether the last message goes on, or a new one begins."""
    return {"continue_final_message": continues, "add_generation_prompt": not continues}


def _event(heading: dict[str, object], **fields: object) -> bytes:
    return b"data: " + msgspec.json.encode({**{name: value for name, value in heading.items() if value}, **fields}) + b"\n\n"
