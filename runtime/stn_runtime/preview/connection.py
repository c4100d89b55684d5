"""Time limits on HTTP connections, which uvicorn lacks.

``uvicorn.Config`` accepts a class of asyncio protocols. This one overrides methods of ``asyncio.Protocol`` only, and
reads no attribute of uvicorn's own class.
"""

import asyncio
import re
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import Limits

_END_OF_HEAD = re.compile(rb"\n\r?\n")  # the blank line after the header fields, as h11 finds it


class Connection(H11Protocol):
    """A connection that is cut when its request does not arrive in time, or when the client does not take its answer.

    Of an answer that the client has not taken yet, it holds one picture beside the system's small send buffer.

    Attributes:
        limits: Limits on clients.
        peers: All open connections of the server.
        stream: The transport of this connection.
    """

    limits: ClassVar[Limits]
    peers: ClassVar[set["Connection"]]

    stream: asyncio.Transport
    _deadline: asyncio.TimerHandle | None = None
    _head_tail: bytes | None = b""  # the last bytes of an unfinished head; None once the head is complete
    _is_stalled = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the request."""
        self.stream = transport
        super().connection_made(transport)
        self.peers.add(self)
        if len(self.peers) > self.limits.connections:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=0)  # the application waits with the next picture until this one is sent
        self._cut_after(self.limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Take data from the client, and stop waiting for the request when its head is complete."""
        super().data_received(data)
        if self._head_tail is None:
            return
        head = self._head_tail + data
        self._head_tail = None if _END_OF_HEAD.search(head) else head[-2:]
        if self._head_tail is None and not self._is_stalled:
            self._keep()

    def pause_writing(self) -> None:
        """Start to wait for the client to take what was sent."""
        super().pause_writing()
        self._is_stalled = True
        self._cut_after(self.limits.stall_seconds)

    def resume_writing(self) -> None:
        """Stop waiting: the client took everything."""
        super().resume_writing()
        self._is_stalled = False
        self._keep()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and its deadline."""
        super().connection_lost(exc)
        self.peers.discard(self)
        self._keep()

    def _cut_after(self, seconds: float) -> None:
        self._keep()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.stream.abort)

    def _keep(self) -> None:
        """Cancel the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
