"""Watch events on their way into the store, and from there to the queue."""

from collections.abc import Callable, Collection

from tokenfleet.controller.observed import Json
from tokenfleet.controller.store import Store
from tokenfleet.controller.work_queue import WorkQueue


class Feed:
    """Hears every event of a stored kind. `missed` is called when the watch has listed anew and may not know of removals."""

    def __init__(self, store: Store, queue: WorkQueue, *, namespaces: Collection[str], missed: Callable[[], None]) -> None:
        self._store, self._queue, self._namespaces, self._missed = store, queue, namespaces, missed

    def hear(self, event: str | None, body: Json) -> None:
        """`event` is ADDED, MODIFIED or DELETED; None for an object that was listed."""
        if self._namespaces and body["metadata"]["namespace"] not in self._namespaces:
            return  # our own namespace is watched for the Lease alone
        concerned = self._store.remove(body) if event == "DELETED" else self._store.put(body)
        if event is None and self._store.mark_listed(body):
            self._missed()
        for key in concerned:
            self._queue.add(key)
