"""TCP sockets, told to notice a peer that vanished without a word.

A node that lost its power sends no FIN. Keep-alive probes find that out on a silent connection, the user timeout on one
with data under way; without them a dead replica, or a dead client, would be waited for until a deadline of minutes.
Accepted connections inherit all of it from the listening socket. TCP_NODELAY is set by uvloop itself, on every connection.
"""

import socket
from pathlib import Path
from typing import Final, Protocol

from tokenfleet.errors import InvalidSettings

BACKLOG: Final = 4096
_IDLE_SECONDS: Final = 15
_INTERVAL_SECONDS: Final = 5
_PROBES: Final = 3


class Socket(Protocol):
    """What a transport gives as its socket, or a socket itself."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def bind(host: str, port: int, *, untaken_seconds: float) -> socket.socket:
    """A socket with an address, that does not listen yet; an empty host means all addresses, of IPv6 too where there is any."""
    everywhere6 = not host and socket.has_dualstack_ipv6() and Path("/proc/net/if_inet6").exists()
    made = socket.socket(socket.AF_INET6 if everywhere6 or ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not everywhere6)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise InvalidSettings(
            f"Cannot listen on {host or 'all addresses'}, port {port}: {error}. See what else listens there, or set "
            "TOKENFLEET_ROUTER_HOST, TOKENFLEET_ROUTER_PORT and TOKENFLEET_ROUTER_ADMIN_PORT."
        ) from error
    notice_death(made, untaken_seconds=untaken_seconds)
    return made


def listen(host: str, port: int, *, untaken_seconds: float) -> socket.socket:
    """A socket that listens."""
    made = bind(host, port, untaken_seconds=untaken_seconds)
    made.listen(BACKLOG)
    return made


def port_of(listening: socket.socket) -> int:
    """The port that a socket listens on, which the system chose where it was asked for port 0."""
    port: int = listening.getsockname()[1]
    return port


def notice_death(raw: Socket, *, untaken_seconds: float) -> None:
    """Break a connection whose peer answers no probe, or takes no byte for so long."""
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL_SECONDS),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(untaken_seconds * 1000)),
    ):
        raw.setsockopt(level, option, value)
