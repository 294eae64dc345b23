"""Whether watching is alive: each renewal of the leader's Lease must come back through the watch.

Counted in renewals rather than seconds: while the API is away there are none, so that is never mistaken for a dead watch,
which is one that is silent although the API server answers.
"""


class Heartbeat:
    """`beat` when we wrote the Lease, `heard` when the watch showed it."""

    def __init__(self, *, patience: int) -> None:
        """`patience`: how many beats in a row may go unheard."""
        self._patience = patience
        self._listening = False
        self._unheard: list[int] = []

    @property
    def alive(self) -> bool:
        return len(self._unheard) <= self._patience

    def listen(self) -> None:
        """The watch begins: from now on beats must be heard."""
        self._listening = True

    def beat(self, version: int) -> None:
        if self._listening:
            self._unheard.append(version)

    def heard(self, version: int) -> None:
        self._unheard = [beat for beat in self._unheard if beat > version]
