"""`tokenfleet-router`: puts the router together from its settings, runs it, and ends it in good order on SIGTERM.

A first SIGTERM or SIGINT begins the goodbye (server.py), a second one ends it at once. Exits 0 after a goodbye, 2 where
its settings cannot be used, 1 where it dies of something else.
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path

import uvloop

from tokenfleet import contract
from tokenfleet.errors import InvalidSettings
from tokenfleet.router.callers.key_files import KeyFiles
from tokenfleet.router.callers.keys import Keyring
from tokenfleet.router.reporting.admin import Admin
from tokenfleet.router.reporting.logs import configure
from tokenfleet.router.reporting.setup import Reporting
from tokenfleet.router.shared import Shared
from tokenfleet.router.source.sources import ClusterSource, fill_static
from tokenfleet.router.wire.limits import Limits
from tokenfleet.router.wire.server import Server
from tokenfleet.router.wire.tls import Certificates
from tokenfleet.settings import RouterSettings

log = logging.getLogger(__name__)


def main() -> None:
    """The console script."""
    try:
        settings = RouterSettings.from_environment(os.environ)
        configure(settings.log_level)
        uvloop.run(serve(settings))
    except InvalidSettings as error:
        sys.stderr.write(f"tokenfleet-router: {error}\n")
        sys.exit(2)


async def serve(settings: RouterSettings) -> None:
    """Until a signal ends it, or something that must not fail has failed."""
    shared = Shared.new(Limits.of(settings))
    reporting = Reporting(shared, environment=os.environ)
    server, admin = Server(shared), Admin(shared)
    signals = _signals(shared.loop)
    companions: list[asyncio.Task[None]] = []
    try:
        admin_port = await admin.start(settings.host, settings.admin_port)
        companions += [asyncio.create_task(work) for work in _companions(shared, settings)]
        port = await server.start(settings.host, settings.port, shared.certificates)
        log.info("serving %s on port %d, admin on port %d", settings.deployment, port, admin_port)
        gc.freeze()
        await _first_signal(signals, companions)
        await _leave(server, settings, signals)
    finally:
        server.stop()
        admin.stop()
        for companion in companions:
            companion.cancel()
        await asyncio.gather(*companions, return_exceptions=True)
        reporting.close()
    log.info("bye")


def _companions(shared: Shared, settings: RouterSettings) -> Iterator[Coroutine[None, None, None]]:
    """What goes on beside the traffic for as long as the router runs."""
    if settings.keys_dir is not None:
        shared.keyring = Keyring()
        files = KeyFiles(settings.keys_dir, shared.keyring)
        files.load()
        yield files.follow()
    if settings.tls_dir is not None:
        shared.certificates = Certificates(settings.tls_dir)
        shared.certificates.load()
        yield shared.certificates.follow()
    if settings.redis_url_file is not None:
        yield from _on_redis(shared, settings, settings.redis_url_file)
    if settings.static_replicas:
        fill_static(shared, settings)
    else:
        yield ClusterSource(shared, settings).follow()


def _on_redis(shared: Shared, settings: RouterSettings, url_file: Path) -> Iterator[Coroutine[None, None, None]]:
    """Limits and the durable queue. All replicas of a router share them, and in one Redis may stand those of many routers.

    Only here is anything of Redis loaded: its client takes a fifth of the memory that a router has without it.
    """
    from tokenfleet.router.callers.rates_redis import SharedRates, connect
    from tokenfleet.router.durable.store import AsyncStore
    from tokenfleet.router.durable.worker import AsyncWorker

    def url() -> str:
        return url_file.read_text().strip()

    kind = contract.ROUTER_PLURAL if settings.shared else contract.PLURAL
    scope, consumer = f"{settings.namespace}/{kind}/{settings.deployment}", f"{socket.gethostname()}-{secrets.token_hex(8)}"
    shared.rates = rates = SharedRates(lambda: connect(url()), shared.rates, scope=scope)
    yield rates.follow()
    store = AsyncStore(url, scope=scope, consumer=consumer)
    shared.async_worker = AsyncWorker(shared, store, random=random.random)
    yield shared.async_worker.follow()


def _signals(loop: asyncio.AbstractEventLoop) -> asyncio.Queue[signal.Signals]:
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received.put_nowait, number)
    return received


async def _first_signal(signals: asyncio.Queue[signal.Signals], companions: Iterable[asyncio.Task[None]]) -> None:
    """Return with a signal; raise what a companion died of, if one did."""
    waiting: asyncio.Task[signal.Signals] = asyncio.create_task(signals.get())
    await asyncio.wait((waiting, *companions), return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        _raise_first(next(companion for companion in companions if companion.done()))
    log.info("got %s", waiting.result().name)


def _raise_first(companion: asyncio.Task[None]) -> None:
    """Out of the task group's exception group, the error that can be told to a person."""
    error = companion.exception()
    if isinstance(error, BaseExceptionGroup):
        raise error.exceptions[0] from error
    if error is not None:
        raise error
    raise RuntimeError("a part that must not end has ended")


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
