"""How far the pods are that fetch their model: the end of such a pod's log says so, and `look` reads it.

The one read of a reconcile that a node answers and not the API server, so it may take as long as a node likes: it has a
deadline, few pods are asked, and few reads run at once, however many LLMDeployments fetch. Whatever goes wrong with it
costs the numbers in the status and nothing else. Of several pods the one that was told of before goes on being told of; then
the newest comes, since it tells of the newest spec, then the oldest, which mostly has the lock that the others wait for.
"""

import logging
from dataclasses import dataclass
from typing import Final, Protocol

from tokenfleet import contract
from tokenfleet.controller import pods
from tokenfleet.controller.cluster import ClusterError, Unavailable
from tokenfleet.controller.observed import Download, Json, Observed
from tokenfleet.controller.store import Key

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
"""After this, a download that was told of is looked at again."""
SILENT_SECONDS: Final = 30.0
"""After this, where no log could be read."""
READ_SECONDS: Final = 1.0
"""What one read may take."""
_PODS: Final = 3
_LINES: Final = 5
_BYTES: Final = 16 * 1024
_DIGITS: Final = 18
"""More than that is no number of bytes, and none that the API server keeps."""


class Logs(Protocol):
    """What `look` needs of the API; Cluster has it."""

    async def log_tail(self, namespace: str, pod: str, container: str, *, lines: int, limit: int, seconds: float) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was found, and when to look again; None: nothing is fetched."""

    download: Download | None = None
    again_after: float | None = None


class Downloads:
    """`look` in every reconcile, `forget` those that are gone."""

    def __init__(self, logs: Logs, *, at_once: int) -> None:
        self._logs, self._at_once = logs, at_once
        self._reading: set[Key] = set()
        self._silent: set[Key] = set()
        """Of whom it was said already that no log can be read."""

    async def look(self, key: Key, observed: Observed) -> Look:
        asked = _worth_asking(observed)
        if not asked:
            self.forget(key)
            return Look()
        before = _told_before(observed, asked)
        if len(self._reading) >= self._at_once:
            return Look(download=before, again_after=LOOK_SECONDS)
        self._reading.add(key)
        try:
            found = await self._ask(observed.namespace, asked)
        except ClusterError as error:
            self._say(key, error)
            return Look(download=before if isinstance(error, Unavailable) else None, again_after=SILENT_SECONDS)
        finally:
            self._reading.discard(key)
        self._silent.discard(key)
        return Look(download=found, again_after=LOOK_SECONDS)

    def forget(self, key: Key) -> None:
        self._silent.discard(key)

    async def _ask(self, namespace: str, asked: list[str]) -> Download | None:
        """The first of these pods that knows how long it will take, else the first that reports: that one waits for another.

        A ClusterError where none reports, and one could not be asked.
        """
        waits: Download | None = None
        failure: ClusterError | None = None
        for pod in asked:
            try:
                text = await self._logs.log_tail(
                    namespace, pod, contract.CONTAINER_FETCH, lines=_LINES, limit=_BYTES, seconds=READ_SECONDS
                )
            except ClusterError as error:
                failure = failure or error
                continue
            found = parse(pod, text)
            if found is not None and found.left is not None:
                return found
            waits = waits or found
        if waits is None and failure is not None:
            raise failure
        return waits

    def _say(self, key: Key, error: ClusterError) -> None:
        if key not in self._silent:
            self._silent.add(key)
            logger.info(
                "%s: a download runs, and its log cannot be read, so status.download does not follow it; trying again: %s",
                "/".join(key),
                error,
            )


def parse(pod: str, text: str) -> Download | None:
    """What the last line that tells of progress says, where there is one."""
    told = (contract.PROGRESS.search(line.rstrip()) for line in reversed(text.splitlines()))
    last = next(filter(None, told), None)
    if last is None or max(len(number or "") for number in last.groups()) > _DIGITS:
        return None
    left = None if last["left"] is None else int(last["left"])
    return Download(pod=pod, done=int(last["done"]), total=int(last["total"]), left=left)


def _worth_asking(observed: Observed) -> list[str]:
    """Names of pods that fetch, the likeliest to report first; few."""
    names = [pod["metadata"]["name"] for pod in pods.newest_first(filter(_fetches, observed.pods))]
    told, newest, oldest_first = [n for n in names if n == _status(observed).get("pod")], names[:1], names[:0:-1]
    return list(dict.fromkeys([*told, *newest, *oldest_first]))[:_PODS]


def _fetches(pod: Json) -> bool:
    return pods.is_engine(pod) and pods.is_fetching(pod)


def _told_before(observed: Observed, asked: list[str]) -> Download | None:
    """status.download, while its pod still fetches."""
    status = _status(observed)
    if status.get("pod") not in asked:
        return None
    return Download(pod=status["pod"], done=status["bytes"], total=status["totalBytes"], left=status.get("secondsLeft"))


def _status(observed: Observed) -> Json:
    return (observed.owner.get("status") or {}).get("download") or {}
