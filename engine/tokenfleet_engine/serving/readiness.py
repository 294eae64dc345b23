"""Ready means that the engine has generated a token, not only that its server listens.

The first time that vLLM is healthy, one completion of one token goes through the same application that clients reach, without
admission around it. It runs on its own, since the first token may take longer than a probe waits; each question waits for it a
little. An engine that makes no text (embeddings, classification) refuses it with 4xx, as does one with an API key of its own;
then health decides alone, and the log says so. After ill health, or sleep, a new token is asked for.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tokenfleet import contract
from tokenfleet_engine.serving.asgi import Answer, App, Scope, ask

COMPLETIONS: Final = "/v1/completions"
PROMPT: Final = (0,)
"""Token ids, so that no tokenizer is needed; each vocabulary has this one."""
MESSAGE_LENGTH: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """In seconds."""

    health: float = 5.0
    first_token: float = 600.0
    """A GPU may compile kernels for it."""
    probe: float = 3.0
    """For which a question waits for a token that is under way; below a probe's own timeout."""
    again: float = 5.0
    """After a warm-up that failed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    ready: bool
    reason: str | None = None
    details: tuple[tuple[str, Any], ...] = ()

    def json(self) -> dict[str, Any]:
        reason = {} if self.reason is None else {"reason": self.reason}
        return {"ready": self.ready, **reason, **dict(self.details)}


READY: Final = Verdict(True)


class Readiness:
    def __init__(
        self,
        app: App,
        *,
        model: Callable[[], str | None],
        clock: Callable[[], float],
        say: Callable[[str], None],
        patience: Patience | None = None,
    ) -> None:
        self._app = app
        self._model = model
        self._clock = clock
        self._say = say
        self._patience = patience or Patience()
        self._warm = False
        self._task: asyncio.Task[None] | None = None
        self._failure: str | None = None
        self._again_at = 0.0

    @property
    def warming_up(self) -> bool:
        return self._task is not None and not self._task.done()

    def forget(self) -> None:
        """The next question asks for a new token."""
        self._warm = False
        self._failure = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def ask(self, scope: Scope) -> Verdict:
        try:
            async with asyncio.timeout(self._patience.health):
                status = (await ask(self._app, scope, "GET", contract.PATH_ENGINE_LIVE)).status
        except TimeoutError:
            return Verdict(False, "HealthTimeout")
        if status != 200:
            self.forget()
            return Verdict(False, "EngineUnhealthy", (("status", status),))
        if not self._warm:
            await self._await_warm_up(scope)
        if self._warm:
            return READY
        return Verdict(False, "WarmUpFailed", (("message", self._failure),)) if self._failure else Verdict(False, "WarmingUp")

    async def _await_warm_up(self, scope: Scope) -> None:
        if self._task is None and self._clock() >= self._again_at:
            self._task = asyncio.create_task(self._warm_up(scope))
        if (task := self._task) is not None:
            await asyncio.wait({task}, timeout=self._patience.probe)

    async def _warm_up(self, scope: Scope) -> None:
        began = self._clock()
        try:
            async with asyncio.timeout(self._patience.first_token):
                content = {"model": self._model(), "prompt": PROMPT, "max_tokens": 1, "temperature": 0}
                answer = await ask(self._app, scope, "POST", COMPLETIONS, content)
            self._failure = _fault(answer)
        except TimeoutError:
            self._failure = f"there was no token within {self._patience.first_token:.0f} s"
        except Exception as error:  # noqa: BLE001  whatever vLLM raises is why there was no token
            self._failure = f"{type(error).__name__}: {error}"[:MESSAGE_LENGTH]
        self._task = None
        if self._failure is not None:
            self._again_at = self._clock() + self._patience.again
            self._say(f"ready: the warm-up failed and is tried again in {self._patience.again:.0f} s: {self._failure}")
            return
        self._warm = True
        if answer.status == 200:
            self._say(f"ready: the first token took {self._clock() - began:.2f} s")
        else:
            self._say(f"ready: by health alone, since {COMPLETIONS} answers {answer.status}: {_message(answer)}")


def _fault(answer: Answer) -> str | None:
    """What is wrong with the engine, or None: a token came, or none can be asked of this kind of engine."""
    if answer.status == 200:
        content = answer.json()
        usage = content.get("usage") if isinstance(content, dict) else None
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        return None if tokens else "the answer has no token in it"
    if 400 <= answer.status < 500:
        return None
    return f"{answer.status}: {_message(answer)}"


def _message(answer: Answer) -> str:
    """vLLM's error, or what else came, cut short."""
    content = answer.json()
    error = content.get("error", content.get("detail")) if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or answer.body.decode(errors="replace"))[:MESSAGE_LENGTH]
