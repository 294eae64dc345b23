"""What admission needs to know of the engine behind it, and vLLM's answers.

The only module of `serving` that knows how vLLM's server is made: it looks into the state of vLLM's application, which is the
same process, and imports nothing. A simulator brings an Engine of its own.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from tokenfleet_engine.serving.asgi import Scope


class Engine(Protocol):
    @property
    def max_sequences(self) -> int | None:
        """How many it runs at once; None where that has no bound."""

    @property
    def no_sleep(self) -> str | None:
        """Why it cannot sleep; None where it can."""

    def models(self) -> Sequence[str]:
        """The names that requests may give: the model's own first, then its adapters'."""

    async def sleep(self) -> None:
        """Give the memory back. Nothing may be in flight."""

    async def wake(self) -> bool:
        """False where some of it could not be taken again."""

    async def is_sleeping(self) -> bool: ...


class VllmEngine:
    """In vLLM's API server."""

    def __init__(self, state: Any) -> None:
        self._state = state

    @property
    def max_sequences(self) -> int | None:
        return int(self._state.vllm_config.scheduler_config.max_num_seqs)

    @property
    def no_sleep(self) -> str | None:
        if self._state.vllm_config.model_config.enable_sleep_mode:
            return None
        return (
            "This engine was started without vLLM's sleep mode. Set spec.engine.sleep to true, which takes an accelerator "
            "on which vLLM can give memory back (NVIDIA, AMD or Intel GPUs, not CPUs)."
        )

    def models(self) -> Sequence[str]:
        served = self._state.openai_serving_models
        return [*(each.name for each in served.base_model_paths), *served.lora_requests]

    async def sleep(self) -> None:
        await self._state.engine_client.sleep(level=1)

    async def wake(self) -> bool:
        return bool(await self._state.engine_client.wake_up())

    async def is_sleeping(self) -> bool:
        return bool(await self._state.engine_client.is_sleeping())


def find_engine(scope: Scope) -> Engine | None:
    """vLLM's, where a request of its server is `scope`."""
    state = getattr(scope.get("app"), "state", None)
    return VllmEngine(state) if getattr(state, "engine_client", None) is not None else None
