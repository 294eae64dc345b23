"""An engine that sleeps: its weights in the host's memory, its KV cache gone, its process and its place kept.

Falling asleep and waking go one at a time, in the order in which they were asked for. From the moment that sleep was asked for
new requests are refused, so that none is in flight when vLLM lets go of its memory, which would break it off. Where vLLM
fails, or takes longer than it may, it is asked which of the two it is; where it does not say, it counts as asleep, which
`wake` can end.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tokenfleet_engine.serving.engine import Engine

SECONDS: Final = 300.0
"""To move the largest model between the GPUs' memory and the host's."""
ANSWER_SECONDS: Final = 5.0
RETRY_AFTER_SECONDS: Final = 10
"""Of a sleeping replica's 503."""
Result = TypeVar("Result")


class Refusal(Exception):
    """Why it cannot be done, and the HTTP status and kind of error for that."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def kind(self) -> str:
        return {409: "conflict", 501: "not_implemented"}.get(self.status, "internal_error")


class Sleep:
    """`busy` tells why an engine may not sleep now; None: it may. `begins` is told when it does."""

    def __init__(self, *, busy: Callable[[], str | None], begins: Callable[[], None]) -> None:
        self.sleeping = False
        """Or falling asleep, or waking."""
        self._busy = busy
        self._begins = begins
        self._turn = asyncio.Lock()

    async def fall_asleep(self, engine: Engine | None) -> None:
        """Raises Refusal."""
        able = _able(engine)
        async with self._turn:
            if self.sleeping:
                return
            if (reason := self._busy()) is not None:
                raise Refusal(409, reason)
            self.sleeping = True
            self._begins()
            await self._do(able, able.sleep(), "fall asleep")

    async def wake(self, engine: Engine | None) -> None:
        """Raises Refusal. Waits for one that is falling asleep."""
        able = _able(engine)
        async with self._turn:
            if not self.sleeping:
                return
            self.sleeping = not await self._do(able, able.wake(), "wake up")
            if self.sleeping:
                raise Refusal(500, "Not all of the engine's memory could be taken again, so it still sleeps. Try again.")

    async def _do(self, engine: Engine, step: Awaitable[Result], what: str) -> Result:
        try:
            async with asyncio.timeout(SECONDS):
                return await step
        except Exception as error:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(ANSWER_SECONDS):
                    self.sleeping = await engine.is_sleeping()
            raise Refusal(500, f"The engine could not {what}: {str(error) or type(error).__name__}") from error


def _able(engine: Engine | None) -> Engine:
    if engine is None:
        raise Refusal(501, "There is no engine here that could sleep.")
    if engine.no_sleep is not None:
        raise Refusal(501, engine.no_sleep)
    return engine
