"""One simulated engine as a process: the application with admission around it, on a port, until SIGTERM has drained it.

What `serve` does with vLLM as its child is done here in one process: SIGTERM makes admission refuse, then waits for what is in
flight, as long as the drain may take; a second one hurries it. While a model's loading is simulated nothing listens, and
SIGTERM ends it at once. An engine that is to crash leaves the note that a real one's supervisor would, and drops all
connections.
"""

import asyncio
import contextlib
import gc
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final, NoReturn

import uvicorn
import uvloop
from prometheus_client import REGISTRY

from tokenfleet import contract
from tokenfleet_engine.failures import EngineFailure, leave_note
from tokenfleet_engine.say import say
from tokenfleet_engine.serving.admission import Admission
from tokenfleet_engine.serving.drain import Drain, LocalEngine
from tokenfleet_engine.simulation.api import Api
from tokenfleet_engine.simulation.engine import Engine
from tokenfleet_engine.simulation.faults import Faults
from tokenfleet_engine.simulation.metrics import Metrics
from tokenfleet_engine.simulation.models import Models
from tokenfleet_engine.simulation.scheduler import Scheduler
from tokenfleet_engine.simulation.settings import Settings

TICK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it serves, and how it goes away."""

    host: str
    port: int
    drain_seconds: int
    termination_log: Path
    environment: Mapping[str, str]


def serve(models: Models, settings: Settings, place: Place) -> int:
    return uvloop.run(_Process(models, settings, place).run())


@dataclass(slots=True)
class _Process:
    models: Models
    settings: Settings
    place: Place
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _hurried: bool = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        if not await self._load():
            return 0
        faults = Faults(self.settings.orders, random=Random(secrets.randbits(64)), clock=time.monotonic)
        metrics = Metrics(
            REGISTRY, model=self.models.base, limits=self.settings.limits, max_model_len=self.settings.max_model_len
        )
        engine = Engine(
            Scheduler(self.settings.limits), self.settings.timing.seconds.scaled(1 / self.settings.speed), observer=metrics,
            clock=time.monotonic, sleep=asyncio.sleep, faults=faults,
        )  # fmt: skip
        api = Api(
            models=self.models, engine=engine, settings=self.settings, faults=faults, registry=REGISTRY, crash=self._crash,
            wall_clock=time.time,
        )  # fmt: skip
        admission = Admission(
            api, engine=SimulatedEngine(self.models, self.settings.limits.max_num_seqs), environment=self.place.environment
        )
        server = _Server(
            uvicorn.Config(
                admission, host=self.place.host, port=self.place.port, loop="none", http="httptools", ws="none", lifespan="off",
                log_level="warning", access_log=False, timeout_graceful_shutdown=contract.ENGINE_SHUTDOWN_SECONDS,
            )
        )  # fmt: skip
        tasks = [asyncio.create_task(engine.run()), asyncio.create_task(self._goodbye(server))]
        if faults.orders.crash_after is not None:
            tasks.append(asyncio.create_task(self._crash_in_time(faults)))
        gc.collect()
        gc.freeze()
        await server.serve()
        for task in tasks:
            task.cancel()
        return 0

    async def _load(self) -> bool:
        """False where it was stopped before it served."""
        if self.settings.startup_seconds:
            say(f"simulate: the model takes {self.settings.startup_seconds:g} s to load")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), self.settings.startup_seconds)
        return not self._stopped.is_set()

    def _stop(self) -> None:
        self._hurried = self._stopped.is_set()
        self._stopped.set()

    async def _goodbye(self, server: "_Server") -> None:
        await self._stopped.wait()
        drain = Drain(
            engine=LocalEngine(port=self.place.port), timeout=self.place.drain_seconds, say=say, gone=lambda: self._hurried
        )
        await asyncio.get_running_loop().run_in_executor(None, drain.run)
        server.leave()

    async def _crash_in_time(self, faults: Faults) -> NoReturn:
        await asyncio.sleep(faults.orders.crash_after or 0.0)
        self._crash()

    def _crash(self) -> NoReturn:
        message = "This end is simulated (--crash-after, --crash-after-requests)."
        say(f"{contract.REASON_ENGINE_CRASHED}: {message}")
        leave_note(EngineFailure(contract.REASON_ENGINE_CRASHED, message), path=self.place.termination_log)
        os._exit(self.settings.orders.crash_code)


class SimulatedEngine:
    """What admission asks of the engine behind it."""

    no_sleep = "A simulated engine has no memory to give back."

    def __init__(self, models: Models, max_sequences: int) -> None:
        self._models = models
        self.max_sequences = max_sequences

    def models(self) -> list[str]:
        return self._models.names

    async def sleep(self) -> None:
        raise NotImplementedError(self.no_sleep)

    async def wake(self) -> bool:
        return True

    async def is_sleeping(self) -> bool:
        return False


class _Server(uvicorn.Server):
    """Looks at its clock once a second, not ten times: an idle engine costs next to nothing."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._left = asyncio.Event()

    def leave(self) -> None:
        self.should_exit = True
        self._left.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), TICK_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signals are the process's own business."""
