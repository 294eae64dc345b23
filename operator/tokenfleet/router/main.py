"""`tokenfleet-router`: puts the router together from its settings, runs it, and ends it in good order on SIGTERM.

A first SIGTERM or SIGINT begins the goodbye (server.py), a second one ends it at once. Exits 0 after a goodbye, 2 where
its settings cannot be used, 1 where it dies of something else.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys

import uvloop

from tokenfleet.errors import InvalidSettings
from tokenfleet.router.admin import Admin
from tokenfleet.router.catalog import Catalog
from tokenfleet.router.limits import Limits
from tokenfleet.router.logs import LEVELS, configure
from tokenfleet.router.server import Server
from tokenfleet.router.shared import Shared
from tokenfleet.router.sources import ClusterSource, fill_static
from tokenfleet.settings import RouterSettings

log = logging.getLogger(__name__)


def main() -> None:
    """The console script."""
    try:
        settings = RouterSettings.from_environment(os.environ)
        if settings.log_level not in LEVELS:
            raise InvalidSettings(f"TOKENFLEET_LOG_LEVEL={settings.log_level!r} is not one of {', '.join(LEVELS)}.")
        configure(settings.log_level)
        uvloop.run(serve(settings))
    except InvalidSettings as error:
        sys.stderr.write(f"tokenfleet-router: {error}\n")
        sys.exit(2)


async def serve(settings: RouterSettings) -> None:
    """Until a signal ends it, or something that must not fail has failed."""
    catalog = Catalog()
    shared = Shared.new(Limits.of(settings), catalog)
    server, admin = Server(shared), Admin(shared)
    signals = _signals(shared.loop)
    follower: asyncio.Task[None] | None = None
    try:
        admin_port = await admin.start(settings.host, settings.admin_port)
        if settings.static_replicas:
            fill_static(catalog, settings)
        else:
            follower = asyncio.create_task(ClusterSource(catalog, settings, shared.metrics).follow())
        port = await server.start(settings.host, settings.port)
        log.info("serving %s on port %d, admin on port %d", settings.deployment, port, admin_port)
        gc.freeze()
        await _first_signal(signals, follower)
        await _leave(server, settings, signals)
    finally:
        server.stop()
        admin.stop()
        if follower is not None:
            follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await follower
    log.info("bye")


def _signals(loop: asyncio.AbstractEventLoop) -> asyncio.Queue[signal.Signals]:
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received.put_nowait, number)
    return received


async def _first_signal(signals: asyncio.Queue[signal.Signals], follower: asyncio.Task[None] | None) -> None:
    """Return with a signal; raise what the follower died of, if it did."""
    waiting: asyncio.Task[signal.Signals] = asyncio.create_task(signals.get())
    tasks: set[asyncio.Task[None] | asyncio.Task[signal.Signals]] = {waiting}
    if follower is not None:
        tasks.add(follower)
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    if waiting not in done:
        waiting.cancel()
        assert follower is not None
        _raise_first(follower)
    log.info("got %s", waiting.result().name)


def _raise_first(follower: asyncio.Task[None]) -> None:
    """Out of the task group's exception group, the error that can be told to a person."""
    error = follower.exception()
    if isinstance(error, BaseExceptionGroup):
        raise error.exceptions[0] from error
    raise RuntimeError("the watch ended") from error


async def _leave(server: Server, settings: RouterSettings, signals: asyncio.Queue[signal.Signals]) -> None:
    leaving = asyncio.create_task(
        server.leave(lame_duck_seconds=settings.lame_duck_seconds, drain_seconds=settings.drain_seconds)
    )
    second = asyncio.create_task(signals.get())
    await asyncio.wait((leaving, second), return_when=asyncio.FIRST_COMPLETED)
    if second.done():
        log.warning("got a second signal: leaving at once")
    for task in (leaving, second):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


if __name__ == "__main__":
    main()
