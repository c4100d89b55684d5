"""The preview's HTTP server: uvicorn on a thread of its own."""

import asyncio
import logging
import socket
from importlib import resources
from threading import Event, Thread
from typing import Any

import uvicorn

from .access import AccessControl, protective_headers
from .connection import Connection
from .endpoints import Endpoints
from .latest import LatestResults
from .limits import Limits

log = logging.getLogger(__name__)

_HEAD_BYTES = 8192  # the longest head of a request
_SEND_BUFFER = 1 << 17  # bytes; a larger one would hold seconds of old pictures for a slow client
_POLL_SECONDS = 0.1  # between checks whether to close
_END_SECONDS = 0.5  # streams that have not ended by themselves are cut after this time
_JOIN_SECONDS = 5.0


class Server:
    """Serves the latest results of a run on a thread of its own, from its construction until ``close``.

    Args:
        listener: Bound and listening socket.
        latest: Holds the newest frame and the last records.
        token: The access token; None when none is required.
        only_loopback: Whether the socket listens on loopback only.
        limits: Limits on clients.
    """

    def __init__(
        self, listener: socket.socket, latest: LatestResults, token: bytes | None, only_loopback: bool, limits: Limits
    ) -> None:
        page = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        self.connections: set[Connection] = set()
        self._endpoints = Endpoints(latest, page.encode(), limits.watchers)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # connections inherit it
        self._listener = listener
        app = AccessControl(self._endpoints.router(), token, only_loopback)
        self._uvicorn = uvicorn.Server(_config(app, page, limits, self.connections))
        self._closing = Event()
        self._thread = Thread(target=self._run, name="stn-preview", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the streams, the connections and the thread."""
        self._closing.set()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        """Serve on this thread until the server is closed or fails."""
        try:
            asyncio.run(self._serve())
        except Exception as error:  # the run goes on without its preview
            log.error("preview: the server ended (%s)", error)
        finally:
            self._listener.close()

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_exception_handler(_log_quietly)
        serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._listener]))
        while not (self._closing.is_set() or serving.done()):
            await asyncio.wait({serving}, timeout=_POLL_SECONDS)
        self._endpoints.close()
        for _ in range(10):
            if serving.done() or not self.connections:
                break
            await asyncio.sleep(_END_SECONDS / 10)
        for connection in list(self.connections):
            connection.stream.abort()
        self._uvicorn.should_exit = True
        await serving


def _config(app: AccessControl, page: str, client_limits: Limits, connections: set[Connection]) -> uvicorn.Config:
    class LimitedConnection(Connection):  # uvicorn constructs the connections from a class
        limits = client_limits
        peers = connections

    return uvicorn.Config(
        app,
        loop="asyncio",
        http=LimitedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # access control logs failed answers in a sentence
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # One request for each connection, so that no idle or slow connection outlives its answer.
        headers=[("Connection", "close"), *protective_headers(page)],
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=1,
    )


def _log_quietly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("preview: %s", context.get("exception") or context.get("message"))
