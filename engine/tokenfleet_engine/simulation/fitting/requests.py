"""Makes requests to a real engine at chosen times and notes when each token came.

One thread each, since the standard library's client is enough for that. Prompts are token numbers drawn at random: their
length is exact for every tokenizer and none shares its beginning with another.
"""

import contextlib
import http.client
import json
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final
from urllib.parse import urlsplit

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure
from tokenfleet_engine.simulation.replay import Load, Outcome

TOKENS: Final = range(100, 250)
"""Of every vocabulary."""
TIMEOUT_SECONDS: Final = 120.0
COUNT: Final = re.compile(rb'"completion_tokens":(\d+)')
"""An event may carry more than one token, where the engine was faster than its server."""


@dataclass(frozen=True, slots=True)
class Target:
    """A real engine."""

    host: str
    port: int
    model: str

    @classmethod
    def find(cls, url: str) -> "Target":
        """Raises EngineFailure where there is none."""
        parts = urlsplit(url)
        target = cls(parts.hostname or "", parts.port or 80, "")
        try:
            with contextlib.closing(target.connect()) as connection:
                connection.request("GET", "/v1/models")
                name = json.loads(connection.getresponse().read())["data"][0]["id"]
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            raise EngineFailure(
                contract.REASON_ENGINE_CONFIG_INVALID,
                f"--fit {url}: no engine answers there ({type(error).__name__}: {error}). Start one with `tokenfleet-engine "
                "serve`, and let nothing else use it.",
            ) from error
        return cls(target.host, target.port, name)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)

    def run(self, loads: Sequence[Load], *, random: Random) -> list[Outcome]:
        """Returns when all have ended."""
        outcomes: list[Outcome | None] = [None] * len(loads)
        began = time.monotonic()

        def ask(number: int, prompt: list[int]) -> None:
            load = loads[number]
            time.sleep(max(0.0, began + load.at - time.monotonic()))
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(self.connect()) as connection:
                outcomes[number] = self._ask(connection, prompt, load.answer_tokens)

        prompts = [random.choices(TOKENS, k=load.prompt_tokens) for load in loads]
        threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(prompts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = [outcome for outcome, load in zip(outcomes, loads, strict=True) if _whole(outcome, load)]
        if len(done) < len(loads):
            raise EngineFailure(
                contract.REASON_ENGINE_CONFIG_INVALID,
                f"--fit: {len(loads) - len(done)} of {len(loads)} requests got no whole answer. Give the engine's own flags "
                "behind --, above all --max-model-len, and let nothing else use it.",
            )
        return [outcome for outcome in done if outcome is not None]

    def _ask(self, connection: http.client.HTTPConnection, prompt: list[int], answer_tokens: int) -> Outcome:
        body = {
            "model": self.model, "prompt": prompt, "max_tokens": answer_tokens, "ignore_eos": True, "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }  # fmt: skip
        outcome = Outcome(time.monotonic())
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        for line in connection.getresponse():
            if (found := COUNT.search(line)) is not None:
                new = int(found[1]) - len(outcome.tokens)
                outcome.tokens += [time.monotonic() - outcome.arrived] * new
        return outcome


def _whole(outcome: Outcome | None, load: Load) -> bool:
    return outcome is not None and len(outcome.tokens) == load.answer_tokens
