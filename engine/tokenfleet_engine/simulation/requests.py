"""One request on its way: from a checked body to sequences for the engine, and from their tokens to an answer.

`begin` is the only way in. What is written here is what a client sees; when it sees it is the engine's affair.
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tokenfleet_engine.simulation import answers, text
from tokenfleet_engine.simulation.answers import Ended, Events, Heading
from tokenfleet_engine.simulation.choices import Choice, Delta
from tokenfleet_engine.simulation.engine import Generation
from tokenfleet_engine.simulation.parameters import Parameters, answer_tokens
from tokenfleet_engine.simulation.sequences import Sequence as Text
from tokenfleet_engine.simulation.settings import Settings
from tokenfleet_engine.simulation.text import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """`pieces` only where the answer repeats it."""

    tokens: int
    pieces: list[bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    heading: Heading
    parameters: Parameters
    prompts: list[Prompt]
    generation: Generation

    @property
    def prompt_tokens(self) -> int:
        return sum(prompt.tokens for prompt in self.prompts)

    @property
    def most_tokens(self) -> int:
        """That all choices together may have."""
        return sum(choice.sequence.limit for choice in self.generation.choices)

    async def whole(self) -> bytes | None:
        """None when the client left."""
        deltas = await self.generation.deltas()
        if self.generation.gone:
            return None
        by_choice: list[list[Delta]] = [[] for _ in self.generation.choices]
        for delta in deltas:
            by_choice[delta.index].append(delta)
        counted = answers.usage(self.prompt_tokens, sum(each[-1].tokens for each in by_choice))
        ended = [self._ended(index, each) for index, each in enumerate(by_choice)]
        return answers.whole(self.heading, ended, counted=counted, prompt_ids=self._ids(0))

    async def events(self, *, cut_after: int | None = None) -> AsyncIterator[bytes]:
        """As they come; all that came at once in one piece. Ends early, without a last word, where it is to be cut."""
        given = self.parameters
        events = Events(self.heading, include_usage=given.include_usage, continuous_usage=given.continuous_usage)
        tokens = 0
        while not self.generation.done:
            deltas = await self.generation.deltas()
            if cut_after is not None:
                deltas = deltas[: cut_after - tokens]
            tokens += len(deltas)
            yield b"".join([self._event(events, delta) for delta in deltas])
            if cut_after is not None and tokens >= cut_after:
                return
        if not self.generation.gone:
            yield events.closing(prompt_tokens=self.prompt_tokens, completion_tokens=tokens)

    def _event(self, events: Events, delta: Delta) -> bytes:
        index = self._prompt_of(delta.index)
        count, first = self.prompts[index].tokens, delta.tokens == 1
        ids = self._ids(index) if first else None
        if self.heading.chat:
            opening = events.opening(delta.index, prompt_tokens=count, prompt_ids=ids) if first else b""
            return opening + events.delta(delta, prompt_tokens=count, token_ids=self._own_ids([delta]))
        if first and self.parameters.echo:
            ids = text.to_numbers(self.prompts[index].pieces or [])
            delta = Delta(delta.index, self._echoed(index, delta.text), delta.piece, delta.tokens, delta.finish, delta.stop)
        return events.delta(delta, prompt_tokens=count, prompt_ids=ids, token_ids=self._own_ids([delta]))

    def _ended(self, index: int, deltas: Sequence[Delta]) -> Ended:
        content = "".join(delta.text for delta in deltas)
        if self.parameters.echo:
            content = self._echoed(self._prompt_of(index), content)
        return Ended(content, deltas[-1], self._own_ids(deltas))

    def _echoed(self, index: int, content: str) -> str:
        """Without any tokens asked for, vLLM makes one and shows the prompt alone."""
        return text.join(self.prompts[index].pieces or []) + ("" if self.parameters.max_tokens == 0 else content)

    def _prompt_of(self, index: int) -> int:
        return index // self.parameters.n

    def _ids(self, index: int) -> list[int] | None:
        return text.to_numbers(self.prompts[index].pieces or []) if self.parameters.token_ids else None

    def _own_ids(self, deltas: Sequence[Delta]) -> list[int] | None:
        return text.to_numbers(delta.piece for delta in deltas) if self.parameters.token_ids else None


def begin(
    prompts: Sequence[list[bytes]], parameters: Parameters, settings: Settings, *, model: str, chat: bool, created: int,
    request_id: str | None,
) -> Request:  # fmt: skip
    """Raises Refused where a prompt is too long."""
    salt = f"{settings.seed}\0{model}".encode()
    choices = [
        _choice(place * parameters.n + number, pieces, parameters, settings, salt=salt, number=number)
        for place, pieces in enumerate(prompts)
        for number in range(parameters.n)
    ]
    prefix = "chatcmpl" if chat else "cmpl"
    kept = parameters.echo or parameters.token_ids
    return Request(
        heading=Heading(id=f"{prefix}-{request_id or secrets.token_hex(8)}", created=created, model=model, chat=chat),
        parameters=parameters,
        prompts=[Prompt(tokens=len(pieces), pieces=pieces if kept else None) for pieces in prompts],
        generation=Generation(choices, streamed=parameters.stream),
    )


def _choice(index: int, pieces: list[bytes], parameters: Parameters, settings: Settings, *, salt: bytes, number: int) -> Choice:
    """Choices of one prompt differ, and so do answers to it with another seed; their prompt's KV blocks are the same."""
    own = salt
    if number or parameters.seed is not None:
        own += f"\0{parameters.seed}\0{number}".encode()
    size = settings.limits.block_size
    sequence = Text(
        prompt_tokens=len(pieces),
        limit=answer_tokens(parameters, prompt_tokens=len(pieces), context=settings.max_model_len),
        block_size=size,
        hashes=text.block_hashes(pieces, salt=salt, block_size=size),
        writer=Writer.begin(pieces, salt=own, mean_tokens=0 if parameters.ignore_end else settings.answer_tokens),
        least=parameters.min_tokens,
    )
    return Choice(index, sequence, parameters.stop, parameters.keep_stop)
