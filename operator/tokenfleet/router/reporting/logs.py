"""How the router logs: one logfmt line per notable thing, on stderr. Never a prompt, never a credential.

What happens per request is not notable (that is debug level, and metrics); what can happen to every request at once is
told through `Sparingly`, which says how many it swallowed.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")


class Logfmt(logging.Formatter):
    """time=... level=... logger=... msg="..." """

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        moment = self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z"
        return f'time={moment} level={record.levelname.lower()} logger={record.name} msg="{quoted}"'


def configure(level: str) -> None:
    """Of the whole process."""
    handler = logging.StreamHandler()
    handler.setFormatter(Logfmt())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)


class Sparingly:
    """A logger for what may happen a thousand times a second: one line per interval."""

    __slots__ = ("_clock", "_interval", "_log", "_next", "_swallowed")

    def __init__(self, log: logging.Logger, *, interval: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._interval = interval
        self._clock = clock
        self._next = 0.0
        self._swallowed = 0

    def warning(self, message: str, *values: object) -> None:
        now = self._clock()
        if now < self._next:
            self._swallowed += 1
            return
        if self._swallowed:
            message += f" (and {self._swallowed} like it)"
        self._next, self._swallowed = now + self._interval, 0
        self._log.warning(message, *values)
