"""`tokenfleet-controller`: settings, logging, and the exit code.

Exits 0 when it was told to end, 1 where it could not go on or another one leads, 2 where its settings cannot be used.
"""

import asyncio
import logging
import os
import sys
from typing import NoReturn

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
        _run(settings)
    except InvalidSettings as error:
        sys.stderr.write(f"tokenfleet-controller: {error}\n")
        sys.exit(2)


def _run(settings: ControllerSettings) -> NoReturn:
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(settings))
    else:
        uvloop.run(_serve(settings))
    raise AssertionError("_serve ends the process")


async def _serve(settings: ControllerSettings) -> NoReturn:
    client = await open_client(connections=settings.workers + 4)
    code = await Process(settings, client).run()
    # Nothing is left to lose: writes are done, the lead is given up. Waiting for the rest, such as requests that kopf repeats
    # for ever, could keep a process that neither watches nor leads.
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    main()
