"""How many connections each client's address has open, so that one client cannot take all that there are.

An IPv4 address is the same one when it comes to an IPv6 socket (::ffff:192.0.2.1). Entering gives what leaving takes back.
"""


class Peers:
    """Of one port."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def enter(self, address: str, *, most: int) -> str | None:
        """Count one more connection, and give the peer for `leave`; None, and nothing counted, where it has all that it may."""
        peer = address.removeprefix("::ffff:") if "." in address else address
        count = self._open.get(peer, 0)
        if count >= most:
            return None
        self._open[peer] = count + 1
        return peer

    def leave(self, peer: str) -> None:
        """A connection of this peer has ended."""
        left = self._open[peer] - 1
        if left:
            self._open[peer] = left
        else:
            del self._open[peer]

    def __len__(self) -> int:
        """How many peers there are."""
        return len(self._open)

    def of(self, peer: str) -> int:
        """How many connections a peer has open."""
        return self._open.get(peer, 0)
