"""What the controller says, and what kopf may say beside it: one line an event, with time, level and who.

kopf logs every event that it hands over, and every attempt of a request that it repeats for ever; of these, what a person
needs is that it fails and with what, so the first attempts and then every twentieth.
"""

import logging
import re
import sys
from typing import Final

_ATTEMPT: Final = re.compile(r"^Request attempt #(\d+) failed; will retry")
_TOLD_FIRST: Final = 2
_TOLD_EVERY: Final = 20


def configure(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.addFilter(is_telling)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        for name in ("kopf.objects", "kopf.activities", "kopf._core.engines.activities"):
            logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def is_telling(record: logging.LogRecord) -> bool:
    """Whether a line is worth printing; kopf names the attempt in its repeated ones."""
    match = _ATTEMPT.match(record.msg) if isinstance(record.msg, str) else None
    return match is None or int(match[1]) <= _TOLD_FIRST or int(match[1]) % _TOLD_EVERY == 0
