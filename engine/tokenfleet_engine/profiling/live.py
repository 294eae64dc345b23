"""A running engine, as its own HTTP interface shows it: its model's name, one completion, its profiler's switch.

vLLM has the profiler's paths only where it was started with --profiler-config; without, this says what to set. Traces are
written by the engine into a directory of its own machine and never travel over HTTP. Standard library alone.
"""

import http.client
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure

TRACE_DIRECTORY: Final = "/tmp/tokenfleet-traces"
PROFILER_CONFIG: Final = f'{{"profiler":"torch","torch_profiler_dir":"{TRACE_DIRECTORY}","torch_profiler_with_stack":false}}'
"""Without stacks: with them most of a trace is Python's frames, and the engine stands still while it writes them all."""
NOT_PROFILING: Final = (
    f"was not started for profiling: it has no /start_profile. Set spec.engine.extraArgs to "
    f"[\"--profiler-config\", '{PROFILER_CONFIG}'], and wait for the new pod."
)
ANSWER_SECONDS: Final = 60.0
WRITING_SECONDS: Final = 600.0
"""Until the engine has written its traces, which it does before it answers."""


@dataclass(frozen=True, slots=True)
class LiveEngine:
    url: str

    def model_name(self) -> str:
        """The first that it serves. Raises EngineFailure where nothing answers."""
        status, answer = self._ask("GET", "/v1/models", None, seconds=ANSWER_SECONDS)
        try:
            return str(json.loads(answer)["data"][0]["id"])
        except (ValueError, KeyError, IndexError, TypeError):
            raise _failure(f"{self.url}/v1/models answers {status}, and no list of models: is this an engine?") from None

    def start_profile(self, prefix: str) -> None:
        """`prefix` begins the names of the traces."""
        body = {"profile_prefix": prefix}
        status, answer = self._ask("POST", "/start_profile", body, seconds=ANSWER_SECONDS)
        if status in (404, 405):
            raise EngineFailure(contract.REASON_ENGINE_CONFIG_INVALID, f"The engine at {self.url} {NOT_PROFILING}")
        if status != 200:
            raise _failure(
                f"The engine at {self.url} refuses to start its profiler ({status}): {_words(answer)} A session that "
                f"somebody left open ends with: curl -X POST {self.url}/stop_profile"
            )

    def stop_profile(self) -> None:
        """Returns when the traces are written."""
        status, answer = self._ask("POST", "/stop_profile", None, seconds=WRITING_SECONDS)
        if status != 200:
            raise _failure(f"The engine at {self.url} did not write its traces ({status}): {_words(answer)}")

    def complete(self, *, model: str, prompt: str, max_tokens: int) -> int:
        """One completion of just so many tokens. Answers with how many came."""
        body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "temperature": 0}
        status, answer = self._ask("POST", "/v1/completions", body, seconds=ANSWER_SECONDS)
        if status != 200:
            raise _failure(f"The engine at {self.url} answers a request with {status}: {_words(answer)}")
        return int(json.loads(answer)["usage"]["completion_tokens"])

    def _ask(self, method: str, path: str, body: Any, *, seconds: float) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=seconds)
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, parts.path.rstrip("/") + path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except TimeoutError as error:
            raise _failure(f"The engine at {self.url} has not answered {path} within {seconds:g} s.") from error
        except (OSError, http.client.HTTPException) as error:
            raise _failure(
                f"Nothing answers at {self.url}{path} ({error}). Does the engine run, and is this its port?"
            ) from error
        finally:
            connection.close()


def check_url(text: str) -> str:
    """For argparse."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(text)
    return text.rstrip("/")


def _words(answer: bytes) -> str:
    text = answer.decode(errors="replace").strip() or "no word why"
    return text[:300] + ("" if text.endswith(".") else ".")


def _failure(message: str) -> EngineFailure:
    return EngineFailure(contract.REASON_ENGINE_START_FAILED, message)
