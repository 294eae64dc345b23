"""What the controller must hear of before the next report is due: requests that no replica can have, and replicas' new states.

Whoever notices it tells; reports.py listens, where a controller follows. A model without replicas may refuse a request at once,
or have another one answer in its place, so that nothing is seen to wait: for a while such a request is wanted all the same.
"""

from collections.abc import Callable
from typing import Final

from tokenfleet.router.models import Model

WANTED_SECONDS: Final = 10.0
"""So long a model counts as wanted after a request that none of its replicas could have had."""
_AGAIN_SECONDS: Final = 1.0


class News:
    """Of one router."""

    __slots__ = ("_clock", "_unserved", "listener")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._unserved: dict[str, float] = {}
        """By model: when a request found no replica at all."""
        self.listener: Callable[[], None] | None = None

    def stir(self) -> None:
        """Something has changed that cannot wait."""
        if self.listener is not None:
            self.listener()

    def unplaced(self, model: Model) -> None:
        """A request for this model has found no place. It is news where that is because no replica gets any requests."""
        if model.has_other(()):
            return
        now, before = self._clock(), self._unserved.get(model.name)
        self._unserved[model.name] = now
        if before is None or now - before >= _AGAIN_SECONDS:
            self.stir()

    def wanted(self, model: Model) -> bool:
        """Whether a request came a moment ago that no replica could have had, and none could still."""
        since = self._unserved.get(model.name)
        if since is None:
            return False
        if self._clock() - since < WANTED_SECONDS and not model.has_other(()):
            return True
        del self._unserved[model.name]
        return False
