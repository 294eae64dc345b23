"""What the engines are asked for: prompts cut from the small model's corpus, and lengths that are mixed as users' are.

All of it is seeded, so every engine of a row gets the same requests. No two prompts begin alike unless a row wants that: the
prefix cache would answer the second.
"""

import random
from pathlib import Path
from typing import Final

from e2e.bench.completions import Request
from e2e.model import objects

CORPUS: Final = (Path(objects.__file__).parent / "corpus.txt").read_text(encoding="utf-8")
"""The model knows it nearly by heart. One byte is one token."""


def text(chance: random.Random, size: int) -> str:
    start = chance.randrange(len(CORPUS) - size)
    return CORPUS[start : start + size].encode("ascii", "replace").decode()


def mixed(count: int, *, seed: int) -> list[Request]:
    """Prompts of 20 to 200 tokens, answers of 8 to 400: most are short, some long (lognormal, median 50)."""
    chance = random.Random(seed)
    return [
        Request(
            prompt=f"{seed}.{number} {text(chance, chance.randint(20, 190))}",
            tokens=min(400, max(8, round(chance.lognormvariate(3.9, 0.9)))),
        )
        for number in range(count)
    ]


def even(count: int, *, prompt: int, tokens: int, seed: int) -> list[Request]:
    """All of one size."""
    chance = random.Random(seed)
    marks = [f"{seed}.{number} " for number in range(count)]
    return [Request(prompt=mark + text(chance, prompt - len(mark)), tokens=tokens) for mark in marks]


def sharing(count: int, *, prefix: int, seed: int) -> list[Request]:
    """One system prompt of `prefix` tokens, and a question of its own behind it each time."""
    chance = random.Random(seed)
    system = f"{seed} {text(chance, prefix)}"
    return [Request(prompt=f"{system} {number} {text(chance, 30)}", tokens=8) for number in range(count)]


def repeating(count: int, *, seed: int, tokens: int = 200) -> list[Request]:
    """A passage, and its beginning once more: the answer goes on with it, as when one edits or quotes."""
    chance = random.Random(seed)
    passages = [f"{seed}.{number} {text(chance, 700)}" for number in range(count)]
    return [Request(prompt=f"{passage}\n\n{passage[:300]}", tokens=tokens) for passage in passages]
