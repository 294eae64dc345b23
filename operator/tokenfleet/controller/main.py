"""`tokenfleet-controller`: settings, logging, and the exit code.

Exits 0 when it was told to end, 1 where it could not go on or another one leads, 2 where its settings cannot be used.
"""

import asyncio
import logging
import os
import sys

from tokenfleet.controller import logs
from tokenfleet.controller.connection import open_client
from tokenfleet.controller.process import Process
from tokenfleet.errors import InvalidSettings
from tokenfleet.settings import ControllerSettings

logger = logging.getLogger(__name__)


def main() -> None:
    """The console script."""
    try:
        settings = ControllerSettings.from_environment(os.environ)
        logs.configure(settings.log_level)
        code = _run(settings)
    except InvalidSettings as error:
        sys.stderr.write(f"tokenfleet-controller: {error}\n")
        code = 2
    sys.exit(code)


def _run(settings: ControllerSettings) -> int:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_serve(settings))
    return uvloop.run(_serve(settings))


async def _serve(settings: ControllerSettings) -> int:
    client = await open_client(connections=settings.workers + 4)
    try:
        return await Process(settings, client).run()
    finally:
        await client.close()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
