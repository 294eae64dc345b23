"""Back-pressure of one connection, in four verbs.

`pause_writing` and `resume_writing` are what its transport says of its own outgoing side; `pause_reading` and
`resume_reading` are what the other side of a relay asks of its incoming side. All may come twice, or after the end.
"""

import asyncio


class Flow:
    """Of one transport."""

    __slots__ = ("_transport", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False

    def pause_reading(self) -> None:
        if not self.read_paused and not self._transport.is_closing():
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
