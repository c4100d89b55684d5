"""What the preview answers: the page, the live picture, the records as they come, its health and its counts."""

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from .board import Board, annotated_jpeg

WATCHERS = 64
"""At most this many streams of pictures, and as many of events, at a time."""

_PICTURES_A_SECOND = 15.0
_EVENTS_A_SECOND = 10.0
_SENDS_A_SECOND = 120.0  # of a kind, to all watchers together: the pipeline comes first
_STATE_SECONDS = 1.0
_REPEAT_SECONDS = 1.0
_BACKLOG = 10  # records that a new watcher gets


class Painter:
    """Makes annotated pictures when somebody wants one: at most one of a frame, and only so many a second.

    Args:
        board: Has the frames.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "stn-preview-painter")
        self._number, self._jpeg, self._painted = 0, b"", 0.0

    async def newest(self) -> tuple[int, bytes]:
        """Return the newest picture's number and JPEG; 0 and nothing before the first one."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            picture = self._board.newest
            # Watchers ask at this rate, and one that is a little early must not wait for another turn.
            is_due = loop.time() - self._painted >= 0.9 / _PICTURES_A_SECOND
            if picture is not None and picture.number != self._number and is_due:
                self._painted = loop.time()
                self._jpeg = await loop.run_in_executor(self._thread, annotated_jpeg, picture)
                self._number = picture.number
            return self._number, self._jpeg

    def close(self) -> None:
        """End the painting thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class Site:
    """The endpoints.

    Args:
        board: What there is to see.
        page: HTML.
    """

    def __init__(self, board: Board, page: bytes) -> None:
        self._board, self._page = board, page
        self._painter = Painter(board)
        self._watchers = {"events": 0, "pictures": 0}
        self._dropped = 0
        self._closing = False

    def router(self) -> Router:
        """Return the endpoints as one application; it serves no files."""
        endpoints = {
            "/": self._index,
            "/stream.mjpg": self._stream,
            "/snapshot.jpg": self._snapshot,
            "/events": self._events,
            "/healthz": self._health,
            "/metrics": self._metrics,
        }
        routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()]
        return Router(routes, redirect_slashes=False)

    def close(self) -> None:
        """Let the streams end."""
        self._closing = True
        self._painter.close()

    async def _index(self, request: Request) -> Response:
        return Response(self._page, media_type="text/html")

    async def _snapshot(self, request: Request) -> Response:
        number, jpeg = await self._painter.newest()
        if not number:
            return PlainTextResponse("no picture yet\n", 503)
        return Response(jpeg, media_type="image/jpeg")

    async def _health(self, request: Request) -> Response:
        state = self._state()
        return JSONResponse(state, 200 if state["healthy"] else 503)

    async def _metrics(self, request: Request) -> Response:
        text = self._board.tally.exposition(self._watchers, self._dropped)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def _stream(self, request: Request) -> Response:
        return self._streaming(request, "pictures", self._parts(), "multipart/x-mixed-replace; boundary=frame")

    async def _events(self, request: Request) -> Response:
        return self._streaming(request, "events", self._told(), "text/event-stream")

    def _streaming(self, request: Request, kind: str, chunks: AsyncIterator[bytes], media_type: str) -> Response:
        if self._watchers[kind] >= WATCHERS:
            return PlainTextResponse(f"{WATCHERS} are watching already\n", 503)
        if request.method == "HEAD":
            return Response(media_type=media_type)
        return StreamingResponse(self._watched(kind, chunks), media_type=media_type)

    async def _watched(self, kind: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._watchers[kind] += 1
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            self._watchers[kind] -= 1

    async def _parts(self) -> AsyncIterator[bytes]:
        """Yield the newest picture again and again, as parts of a multipart body (RFC 2046, 5.1).

        One that stays the newest is repeated, since browsers show a part only when the next one begins.
        """
        sent, repeat_due = 0, 0.0
        async for now in self._turns("pictures", _PICTURES_A_SECOND):
            number, jpeg = await self._painter.newest()
            if number and (number != sent or now >= repeat_due):
                sent, repeat_due = number, now + _REPEAT_SECONDS
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield b"%b%b\r\n" % (head.encode("ascii"), jpeg)

    async def _told(self) -> AsyncIterator[bytes]:
        """Yield records as server-sent events, the run's state once a second, and how many records were lost."""
        number = max(0, self._board.posted - _BACKLOG)
        state_due = 0.0
        async for now in self._turns("events", _EVENTS_A_SECOND):
            chunks = []
            if now >= state_due:
                state_due = now + _STATE_SECONDS
                chunks.append(f"event: state\ndata: {json.dumps(self._state())}\n\n".encode("ascii"))
            entries = self._board.since(number)
            if entries:
                lost = entries[0].number - number - 1
                if lost:
                    self._dropped += lost
                    chunks.append(f"event: lost\ndata: {lost}\n\n".encode("ascii"))
                number = entries[-1].number
                chunks += [entry.event for entry in entries]
            if chunks:
                yield b"".join(chunks)

    async def _turns(self, kind: str, most: float) -> AsyncIterator[float]:
        """Yield the time, ``most`` times a second at most, more rarely where there are many watchers.

        All have their turns at the same moments, so that what is painted or written for one does for all.
        """
        loop = asyncio.get_running_loop()
        while not self._closing:
            yield loop.time()
            pause = max(1 / most, self._watchers[kind] / _SENDS_A_SECOND)
            await asyncio.sleep(pause - loop.time() % pause)

    def _state(self) -> dict[str, Any]:
        state = self._board.tally.state()
        age = None if state.age is None else round(state.age, 3)
        found = asdict(state) | {"rate": round(state.rate, 3), "age": age}
        return {"model": self._board.model, "live": self._board.tally.live} | found
