"""A request's place on a replica: taken when it is made, given back by its release, and counted nowhere else."""

from types import TracebackType

from tokenfleet.router.balancing.replica import Replica


class Lease:
    """Ends by `release`, or by the end of its `with`; ending it twice is harmless."""

    __slots__ = ("_held", "replica")

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._held = True
        replica.in_flight += 1
        replica.weigh()

    def release(self) -> None:
        if self._held:
            self._held = False
            replica = self.replica
            replica.in_flight -= 1
            replica.weigh()
            freed = replica.owner.freed
            if freed is not None:
                freed()

    def __enter__(self) -> Replica:
        return self.replica

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
