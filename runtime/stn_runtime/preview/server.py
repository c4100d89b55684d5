"""The preview's HTTP server: uvicorn in a thread, with what it lacks against slow clients."""

import asyncio
import logging
import socket
from importlib import resources
from threading import Thread
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .access import Door, protective_headers
from .app import Site
from .board import Board

log = logging.getLogger(__name__)

_HEAD_SECONDS = 8.0  # for a request's head to arrive
_STALL_SECONDS = 20.0  # for a client to take what was sent
_CONNECTIONS = 160  # more than two streams for each watcher that there may be
_HEAD_BYTES = 8192
_SEND_BUFFER = 1 << 17  # bytes; a larger one would hold seconds of old pictures for a slow client
_END_SECONDS = 0.5


class Connection(H11Protocol):
    """A connection that is cut when its request does not come, or when its answer is not taken.

    Of what a client has not taken yet, one picture is kept here, and the system's small send buffer.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the request."""
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=0)  # so that the next picture waits until this one is gone
        self._cut_in(_HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Take what came; with the end of the request's head the wait is over."""
        super().data_received(data)
        if self.cycle is not None and not self.flow.write_paused:
            self._stay()

    def pause_writing(self) -> None:
        """Start to wait for the client to take what was sent."""
        super().pause_writing()
        self._cut_in(_STALL_SECONDS)

    def resume_writing(self) -> None:
        """Stop waiting: all is taken."""
        super().resume_writing()
        self._stay()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        super().connection_lost(exc)
        self._stay()

    def _cut_in(self, seconds: float) -> None:
        self._stay()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _stay(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """Serves a board from a thread of its own.

    Args:
        listener: Bound and listening.
        board: What there is to see.
        token: Of those who may see it; None for all.
        only_here: Whether the socket is this machine's loopback.
    """

    def __init__(self, listener: socket.socket, board: Board, token: bytes | None, only_here: bool) -> None:
        page = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        self._site = Site(board, page.encode())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # connections inherit it
        config = uvicorn.Config(
            Door(self._site.router(), token, only_here),
            loop="asyncio",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # what goes wrong is said by the door, in a sentence
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # One request a connection, so that no idle or dripping connection is left behind an answer.
            headers=[("Connection", "close"), *protective_headers(page)],
            h11_max_incomplete_event_size=_HEAD_BYTES,
            timeout_graceful_shutdown=1,
        )
        super().__init__(config)
        self._listener = listener
        self._thread = Thread(target=self._serve_all, name="stn-preview", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the streams, the connections and the thread."""
        self.should_exit = True
        self._thread.join(5)

    def _serve_all(self) -> None:
        try:
            self.run([self._listener])
        except Exception as error:  # the run goes on without its preview
            log.error("preview: the server ended (%s)", error)
        finally:
            self._listener.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        asyncio.get_running_loop().set_exception_handler(_debug)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the streams end, then cut what is left."""
        self._site.close()
        for _ in range(10):
            if not self.server_state.connections:
                break
            await asyncio.sleep(_END_SECONDS / 10)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _debug(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("preview: %s", context.get("exception") or context.get("message"))
