"""What is asked: one prompt of a load test, and prompts that are made up, of lengths that are wished for.

A prompt is a text, messages of a chat, or token numbers. How a length in tokens is met without the model's tokenizer is the
matter of `wording`, which is given here as a function. Chance is a parameter: the same seed asks the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, Protocol

Message = Mapping[str, Any]
"""{"role": ..., "content": ...}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request. Exactly one of text, messages and token_ids is given."""

    text: str | None = None
    messages: tuple[Message, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    output_tokens: int | None = None
    """The most that are asked for; the server's default where None."""
    input_tokens: int | None = None
    """As it was meant to be; the server counts for itself."""
    turns: tuple[str, ...] = ()
    """What the user says next, each after the answer to the one before."""
    conversation: int | None = None
    turn: int = 0
    extra: Mapping[str, Any] | None = None
    """More fields of the request's body."""

    def after(self, answer: str) -> "Prompt | None":
        """The next turn of the conversation, with all that was said; None at its end."""
        if not self.turns:
            return None
        said = self.messages if self.messages is not None else ({"role": "user", "content": self.text or ""},)
        grown = (*said, {"role": "assistant", "content": answer}, {"role": "user", "content": self.turns[0]})
        return replace(self, text=None, token_ids=None, messages=grown, turns=self.turns[1:], turn=self.turn + 1)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens, each time drawn anew."""

    kind: str
    """fixed, normal, uniform or lognormal."""
    first: float
    """The length; the mean; the least; the median."""
    second: float = 0.0
    """Nothing; the standard deviation; the most; the standard deviation of the logarithm."""

    def draw(self, chance: Random) -> int:
        """At least 1; a normal one stays within three deviations."""
        match self.kind:
            case "normal":
                drawn = min(
                    max(chance.gauss(self.first, self.second), self.first - 3 * self.second), self.first + 3 * self.second
                )
            case "uniform":
                drawn = chance.uniform(self.first, self.second)
            case "lognormal":
                drawn = chance.lognormvariate(0.0, self.second) * self.first
            case _:
                drawn = self.first
        return max(1, round(drawn))

    def __str__(self) -> str:
        if self.kind == "fixed":
            return f"{self.first:g}"
        return f"{self.first:g}±{self.second:g}" if self.kind == "normal" else f"{self.kind}:{self.first:g}:{self.second:g}"


class Wording(Protocol):
    """Makes prompts of a length in tokens."""

    @property
    def way(self) -> str: ...

    """For people, and the run's meta."""

    def prompt(self, chance: Random, *, tokens: int, prefix: "Prefix | None") -> Prompt: ...

    def turn(self, chance: Random, *, tokens: int) -> str: ...


@dataclass(frozen=True, slots=True)
class Prefix:
    """What several prompts begin with."""

    seed: int
    tokens: int


TOKENS: Final = range(100, 250)
"""Token numbers that every vocabulary has, and that are ordinary ones in all that are in use."""
SEEDS: Final = 1 << 32


class Numbers:
    """Prompts as token numbers, drawn at random: any length is exact, and no two begin alike. For completions."""

    way = "token numbers drawn at random: exact"

    def prompt(self, chance: Random, *, tokens: int, prefix: Prefix | None) -> Prompt:
        shared = Random(prefix.seed).choices(TOKENS, k=prefix.tokens) if prefix is not None else []
        numbers = (*shared, *chance.choices(TOKENS, k=tokens))
        return Prompt(token_ids=numbers, input_tokens=len(numbers))

    def turn(self, chance: Random, *, tokens: int) -> str:
        raise ValueError("a conversation needs words: ask the chat endpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """Prompts of chance."""

    input: Lengths
    output: Lengths
    wording: Wording
    prefix: int = 0
    """Tokens in front of the others."""
    prefixes: int = 1
    """How many different ones."""
    turns: int = 1

    def prompts(self, chance: Random) -> Iterator[Prompt]:
        """Without end."""
        prefixes = [Prefix(chance.randrange(SEEDS), self.prefix) for _ in range(self.prefixes)] if self.prefix else []
        number = 0
        while True:
            made = self.wording.prompt(
                chance, tokens=self.input.draw(chance), prefix=chance.choice(prefixes) if prefixes else None
            )  # fmt: skip
            more = tuple(self.wording.turn(chance, tokens=self.input.draw(chance)) for _ in range(self.turns - 1))
            conversation = number if self.turns > 1 else None
            yield replace(made, output_tokens=self.output.draw(chance), turns=more, conversation=conversation)
            number += 1
