"""The preview's endpoints: page, live picture, records as they come, health and metrics."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from prometheus_client import generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from .latest import LatestResults
from .metrics import ClientCounts
from .prometheus import MEDIA_TYPE, metrics_registry
from .rendering import PICTURES_A_SECOND, JpegRenderer

_EVENTS_A_SECOND = 10.0
_SENDS_A_SECOND = 120.0  # limit for all clients of one stream together: the pipeline needs the CPU
_STATE_SECONDS = 1.0  # between two states in /events
_REPEAT_SECONDS = 1.0  # after which a picture that is still the newest is sent again
_FIRST_RECORDS = 10  # a new client of /events first gets the last 10 records


class Endpoints:
    """Answers the requests that passed access control.

    Args:
        latest: Holds the newest frame and the last records.
        page: HTML of the page.
        watchers: Most clients of each stream at a time.
    """

    def __init__(self, latest: LatestResults, page: bytes, watchers: int) -> None:
        self._latest, self._page, self._watchers = latest, page, watchers
        self._renderer = JpegRenderer(latest)
        self._clients = ClientCounts()
        self._registry = metrics_registry(latest.metrics, self._clients)
        self._closing = False

    def router(self) -> Router:
        """Return the endpoints as one application; it serves no files."""
        endpoints = {
            "/": self._index,
            "/stream.mjpg": self._picture_stream,
            "/snapshot.jpg": self._snapshot,
            "/events": self._event_stream,
            "/healthz": self._health,
            "/metrics": self._metrics,
        }
        routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()]
        return Router(routes, redirect_slashes=False)

    def close(self) -> None:
        """Let the streams end."""
        self._closing = True
        self._renderer.close()

    async def _index(self, request: Request) -> Response:
        return Response(self._page, media_type="text/html")

    async def _snapshot(self, request: Request) -> Response:
        number, jpeg = await self._renderer.newest()
        if not number:
            return PlainTextResponse("no picture yet\n", 503)
        return Response(jpeg, media_type="image/jpeg")

    async def _health(self, request: Request) -> Response:
        state = self._state()
        return JSONResponse(state, 200 if state["healthy"] else 503)

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type=MEDIA_TYPE)

    async def _picture_stream(self, request: Request) -> Response:
        return self._stream(request, "pictures", self._pictures(), "multipart/x-mixed-replace; boundary=frame")

    async def _event_stream(self, request: Request) -> Response:
        return self._stream(request, "events", self._events(), "text/event-stream")

    def _stream(self, request: Request, stream: str, chunks: AsyncIterator[bytes], media_type: str) -> Response:
        if self._clients.streams[stream] >= self._watchers:
            return PlainTextResponse(f"{self._watchers} are watching already\n", 503)
        if request.method == "HEAD":
            return Response(media_type=media_type)
        return StreamingResponse(self._counted(stream, chunks), media_type=media_type)

    async def _counted(self, stream: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the chunks, and count the client while they last."""
        self._clients.streams[stream] += 1
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            self._clients.streams[stream] -= 1

    async def _pictures(self) -> AsyncIterator[bytes]:
        """Yield each newest picture as a part of a multipart body (RFC 2046, 5.1).

        A picture that stays the newest is repeated, since browsers show a part only when the next one begins.
        """
        sent_number, repeat_due = 0, 0.0
        async for now in self._ticks("pictures", PICTURES_A_SECOND):
            number, jpeg = await self._renderer.newest()
            if number and (number != sent_number or now >= repeat_due):
                sent_number, repeat_due = number, now + _REPEAT_SECONDS
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                yield b"%b%b\r\n" % (head.encode("ascii"), jpeg)

    async def _events(self) -> AsyncIterator[bytes]:
        """Yield server-sent events: each record, the run's state once a second, and how many records were lost."""
        sent_number = max(0, self._latest.newest_number - _FIRST_RECORDS)
        state_due = 0.0
        async for now in self._ticks("events", _EVENTS_A_SECOND):
            chunks = []
            if now >= state_due:
                state_due = now + _STATE_SECONDS
                chunks.append(f"event: state\ndata: {json.dumps(self._state())}\n\n".encode("ascii"))
            records = self._latest.records_after(sent_number)
            if records:
                lost = records[0].number - sent_number - 1
                if lost:
                    self._clients.lost_records += lost
                    chunks.append(f"event: lost\ndata: {lost}\n\n".encode("ascii"))
                sent_number = records[-1].number
                chunks += [record.event for record in records]
            if chunks:
                yield b"".join(chunks)

    async def _ticks(self, stream: str, most: float) -> AsyncIterator[float]:
        """Yield the time at most ``most`` times a second, and more rarely when a stream has many clients.

        All clients of a stream have the same ticks, so that one drawing or encoding serves them all.
        """
        loop = asyncio.get_running_loop()
        while not self._closing:
            yield loop.time()
            period = max(1 / most, self._clients.streams[stream] / _SENDS_A_SECOND)
            await asyncio.sleep(period - loop.time() % period)

    def _state(self) -> dict[str, Any]:
        """Return the run's state as plain values, ready for JSON."""
        metrics = self._latest.metrics
        state = metrics.state()
        age = None if state.age is None else round(state.age, 3)
        fields = asdict(state) | {"rate": round(state.rate, 3), "age": age}
        return {"model": self._latest.model, "live": metrics.live} | fields
