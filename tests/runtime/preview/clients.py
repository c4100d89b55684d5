"""Frames to show in a preview, and requests to it as its clients send them."""

import http.client
import json
import socket
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stn_runtime import Prediction
from stn_runtime.preview.preview import Preview
from stn_runtime.records.record import Record
from stn_runtime.sources.frame import Frame

PATHS = ("/", "/stream.mjpg", "/snapshot.jpg", "/events", "/healthz", "/metrics")
SQUARE = np.array([[[100, 50], [300, 50], [300, 250], [100, 250]]], np.float32)  # in a picture 400 x 300
Answer = tuple[int, dict[str, str], bytes]


def make_prediction(outline: NDArray[np.float32] = SQUARE) -> Prediction:
    return Prediction("7", 0.9, (), (), outline, None, {"infer": 2.0}, np.array([0.9], np.float32))


def classified_frame(number: int = 0, level: int = 128, source: str = "cam", size: int = 300) -> tuple[Frame, Record]:
    image = np.full((size, size * 4 // 3, 3), level, np.uint8)
    return Frame(source, number, 1.5, image), Record(source, number, 1.5, make_prediction())


def camera_event(name: Any, error: str | None = None) -> tuple[Frame, Record]:  # noqa: ANN401
    return Frame("cam", 9, 2.0, None, error, event=name), Record("cam", 9, 2.0, None, error, event=name)


def noise_frame(number: int) -> tuple[Frame, Record]:
    """Return a frame whose JPEG is large."""
    image = np.random.default_rng(number).integers(0, 255, (960, 1280, 3), np.uint8)
    return Frame("cam", number, 1.0, image), Record("cam", number, 1.0, make_prediction())


def get(preview: Preview, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", preview.address.port, timeout=30)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    # A stream has no end, so only its head is read.
    body = b"" if path.startswith(("/stream", "/events")) and answer.status == 200 else answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def open_stream(preview: Preview, path: str = "/stream.mjpg", buffer: int | None = None) -> socket.socket:
    """Send a request and do not read the answer yet."""
    client = socket.socket()
    if buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(30)
    client.connect(("127.0.0.1", preview.address.port))
    client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    return client


def read_until(is_complete: Callable[[bytes], bool], client: socket.socket) -> bytes:
    """Read until the data is complete; fail when the stream ends before that."""
    data = b""
    while not is_complete(data):
        received = client.recv(1 << 16)
        assert received, f"the stream ended after {data[-300:]!r}"
        data += received
    return data


def read_to_end(client: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    data = b""
    try:
        while received := client.recv(1 << 16):
            data += received
    except ConnectionResetError:
        pass
    return data


def decoded(jpeg: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def is_orange(pixel: NDArray[np.uint8]) -> bool:
    """Return whether a pixel has the outline's colour, as far as JPEG keeps that of a thin line on a grey picture."""
    return int(pixel[0]) - int(pixel[2]) > 80


def parse_events(stream: bytes) -> list[tuple[str, Any]]:
    """Return server-sent events as a browser reads them: (type, data)."""
    events = []
    for block in stream.partition(b"\r\n\r\n")[2].decode("ascii").split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        events.append((fields.get("event", "message"), json.loads(fields["data"])))
    return events
