"""Meets a length in tokens without the model's tokenizer: by token numbers where they will do, else by words whose tokens were
counted by the server.

All words have four letters. So in nearly every vocabulary each is one token, and in one of bytes five; a line through two
prompts that the server has counted tells how many words make a length, and what a chat's template adds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from tokenfleet.bench.client import Client
from tokenfleet.bench.prompts import Numbers, Prefix, Prompt, Wording

_TEXT: Final = """
able area army away baby back ball band bank base bath bear beat been bell best bill bird blue boat body bone book born both
bowl burn bush busy cake call calm came camp card care case cash cast cell city club coal coat code cold come cook cool copy
corn cost crew crop dark data date dead deal dear deep desk door down draw drop drug dust duty each earn ease east easy edge
else even ever face fact fail fair fall farm fast fear feed feel feet fell felt file fill film find fine fire firm fish five
flat flow food foot form four free from fuel full fund gain game gate gave gift girl give glad goal goes gold gone good gray
grew grow hair half hall hand hang hard have head hear heat held help here hide high hill hold hole holy home hope host hour
huge idea inch into iron item join jump jury just keep kept kick kill kind king knew know lack lady lake land lane last late
lead left less life lift like line link list live load loan lock long look lord lose loss lost love luck made mail main make
male many mark mass meal mean meat meet menu mile milk mind mine miss mode mood moon more most move much must name near neck
need news next nice nine none nose note okay once only open oral over pace pack page paid pain pair park part pass past path
peak pick pink pipe plan play plus pool poor port post pull pure push race rail rain rank rate read real rely rent rest rice
rich ride ring rise risk road rock role roll roof room root rule safe said sale salt same sand save seat seed seek seem seen
self sell send ship shoe shop shot show shut sick side sign sing site size skin slow snow soft soil sold some song soon sort
soul spot star stay step stop such suit sure take talk tall tank team tell tend term test text than that them then they thin
this thus till time tiny told tone tool tour town tree trip true tube turn twin type unit upon used user vary vast very vote
wage wait wake walk wall want warm wash wave week well went were west what when wide wife wild will wind wine wing wire wise
wish with wood word wore work yard year your zone
"""
WORDS: Final = tuple(_TEXT.split())
_SHORT, _LONG = 16, 144
"""Words of the two prompts that are counted."""


@dataclass(frozen=True, slots=True)
class Words:
    """Prompts of words."""

    per_word: float
    """Tokens."""
    around: float
    """Tokens that the server puts around the words."""
    way: str

    def prompt(self, chance: Random, *, tokens: int, prefix: Prefix | None) -> Prompt:
        shared = self._words(Random(prefix.seed), prefix.tokens, 0.0) if prefix is not None else []
        text = " ".join([*shared, *self._words(chance, tokens, self.around)])
        return Prompt(text=text, input_tokens=tokens + (prefix.tokens if prefix is not None else 0))

    def turn(self, chance: Random, *, tokens: int) -> str:
        return " ".join(self._words(chance, tokens, self.around))

    def _words(self, chance: Random, tokens: int, around: float) -> list[str]:
        return chance.choices(WORDS, k=max(1, round((tokens - around) / self.per_word)))


async def choose_wording(client: Client, *, words: bool = False) -> Wording:
    """words: even where token numbers would do, because the prompts are to be read, or grow into conversations."""
    if client.endpoint == "completions" and not words and await _takes_numbers(client):
        return Numbers()
    counted = [await _count(client, count) for count in (_SHORT, _LONG)]
    short, long = (count for count, _ in counted)
    if short is None or long is None or long <= short:
        return Words(1.0, 0.0, "words of four letters, taken for one token each: the server counts none")
    per_word = (long - short) / (_LONG - _SHORT)
    return Words(per_word, short - per_word * _SHORT, f"words of {per_word:.3g} tokens each, as {counted[1][1]} counted them")


async def _takes_numbers(client: Client) -> bool:
    prompt = replace(Numbers().prompt(Random(0), tokens=_SHORT, prefix=None), output_tokens=1)
    exchange = await client.send(prompt)
    return exchange.outcome == "ok" and (not exchange.counted or exchange.prompt_tokens == _SHORT)


async def _count(client: Client, words: int) -> tuple[int | None, str]:
    """Tokens of so many words, by the tokenizer of the server; else as it counts them for a request of one token."""
    text = " ".join(Random(words).choices(WORDS, k=words))
    asked: Mapping[str, Any] = (
        {"messages": [{"role": "user", "content": text}]} if client.endpoint == "chat" else {"prompt": text}
    )
    status, told = await client.fetch("//tokenize", {"model": client.model, **asked})
    if status == 200 and isinstance(told, dict) and isinstance(told.get("count"), int):
        return told["count"], "the server's tokenizer"
    exchange = await client.send(Prompt(text=text, output_tokens=1))
    return (exchange.prompt_tokens if exchange.counted and exchange.outcome == "ok" else None), "the server's usage"
