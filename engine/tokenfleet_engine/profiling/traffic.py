"""A few requests, so that a trace has something to show: so many, or for so long.

Bounded on every side: their number or time, tokens each, and how many at once. A request that fails stops nothing, since the
profiler must be switched off again in any case; the failures are counted, and the first is kept.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from tokenfleet_engine.failures import EngineFailure

SENTENCE: Final = "The fleet left the harbour before dawn, and by noon the wind had turned. "


@dataclass(slots=True)
class Sent:
    answered: int = 0
    tokens: int = 0
    failed: int = 0
    first_failure: str = ""


def send(
    complete: Callable[[str], int], *, requests: int | None, seconds: float, at_once: int, prompt_words: int,
    clock: Callable[[], float],
) -> Sent:  # fmt: skip
    """`complete` sends a prompt and answers with its tokens. Ends after `requests`, or without them when the time is over."""
    sent = Sent()
    lock = threading.Lock()
    end = clock() + seconds
    taken = 0

    def next_number() -> int | None:
        nonlocal taken
        with lock:
            if clock() >= end or (requests is not None and taken >= requests):
                return None
            taken += 1
            return taken

    def work() -> None:
        while (number := next_number()) is not None:
            try:
                tokens = complete(prompt(number, words=prompt_words))
            except EngineFailure as failure:
                with lock:
                    sent.failed += 1
                    sent.first_failure = sent.first_failure or failure.message
                return  # an engine that refuses is not asked over and over
            with lock:
                sent.answered += 1
                sent.tokens += tokens

    with ThreadPoolExecutor(at_once) as workers:
        for _ in range(at_once):
            workers.submit(work)
    return sent


def prompt(number: int, *, words: int) -> str:
    """Begins with its number, so that no prefix cache knows it."""
    text = (SENTENCE * (words // len(SENTENCE.split()) + 1)).split()[:words]
    return f"{number}. {' '.join(text)}"
