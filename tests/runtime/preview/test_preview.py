"""The preview in a browser: what it shows, whom it refuses, and that nobody can hold it up."""

import base64
import hashlib
import http.client
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from stn_runtime import InputError, MissingDependencyError, Prediction
from stn_runtime.preview import app as preview_app
from stn_runtime.preview import server as preview_server
from stn_runtime.preview.board import Picture, annotated_jpeg
from stn_runtime.preview.preview import Address, Preview, parse_address
from stn_runtime.records.record import Record
from stn_runtime.sources.frame import Frame

PATHS = ("/", "/stream.mjpg", "/snapshot.jpg", "/events", "/healthz", "/metrics")
SQUARE = np.array([[[100, 50], [300, 50], [300, 250], [100, 250]]], np.float32)  # of a picture 400 x 300
Answer = tuple[int, dict[str, str], bytes]


def _prediction(outline: NDArray[np.float32] = SQUARE) -> Prediction:
    return Prediction("7", 0.9, (), (), outline, None, {"infer": 2.0}, np.array([0.9], np.float32))


def _shown(number: int = 0, level: int = 128, source: str = "cam", size: int = 300) -> tuple[Frame, Record]:
    image = np.full((size, size * 4 // 3, 3), level, np.uint8)
    return Frame(source, number, 1.5, image), Record(source, number, 1.5, _prediction())


def _event(name: Any, error: str | None = None) -> tuple[Frame, Record]:  # noqa: ANN401
    return Frame("cam", 9, 2.0, None, error, event=name), Record("cam", 9, 2.0, None, error, event=name)


@pytest.fixture
def serve() -> Iterator[Callable[..., Preview]]:
    """Start a preview on a free port; all are closed at the end of the test."""
    started = []

    def start(token: str | None = None, live: bool = True, **options: Any) -> Preview:  # noqa: ANN401
        started.append(Preview(parse_address("0"), token, "tiny", live, **options))
        return started[-1]

    yield start
    for preview in started:
        preview.close()


def _get(preview: Preview, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", preview.address.port, timeout=30)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    # A stream has no end: what is of interest here is its head.
    body = b"" if path.startswith(("/stream", "/events")) and answer.status == 200 else answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def _open(preview: Preview, path: str = "/stream.mjpg", buffer: int | None = None) -> socket.socket:
    """Ask for a path and do not read the answer yet."""
    client = socket.socket()
    if buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(30)
    client.connect(("127.0.0.1", preview.address.port))
    client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    return client


def _until(found: Callable[[bytes], bool], client: socket.socket) -> bytes:
    """Read until there is what is looked for; an end of the stream before that is an error."""
    data = b""
    while not found(data):
        received = client.recv(1 << 16)
        assert received, f"the stream ended after {data[-300:]!r}"
        data += received
    return data


def _rest(client: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    data = b""
    try:
        while received := client.recv(1 << 16):
            data += received
    except ConnectionResetError:
        pass
    return data


def _eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def _decoded(jpeg: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _is_orange(pixel: NDArray[np.uint8]) -> bool:
    """Whether the colour is the outline's, as far as JPEG leaves a thin line its colour; the pictures are grey."""
    return int(pixel[0]) - int(pixel[2]) > 80


def _events(stream: bytes) -> list[tuple[str, Any]]:
    """Server-sent events as a browser reads them: (type, data)."""
    found = []
    for block in stream.partition(b"\r\n\r\n")[2].decode("ascii").split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields.get("event", "message"), json.loads(fields["data"])))
    return found


# Addresses


@pytest.mark.parametrize(
    ("text", "host", "port", "said"),
    [
        ("8000", "127.0.0.1", 8000, "127.0.0.1:8000"),
        ("0.0.0.0:80", "0.0.0.0", 80, "0.0.0.0:80"),
        ("[::1]:8000", "::1", 8000, "[::1]:8000"),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535, "[fe80::1%eth0]:65535"),
        ("pi.local:0", "pi.local", 0, "pi.local:0"),
    ],
)
def test_an_address_is_a_port_with_or_without_a_host(text: str, host: str, port: int, said: str) -> None:
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == said


@pytest.mark.parametrize(
    "text", ["", "pi", ":8000", "pi:", "65536", "-1", "8000.5", "a b:1", "::1:8000", "[pi]:80", "http://pi:80", "٣"]
)
def test_what_is_no_address_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InputError, match=r"^--serve .*: expected PORT or HOST:PORT, .* such as 8000, 0\.0\.0\.0:8000"):
        parse_address(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])
def test_what_others_can_reach_needs_a_token(host: str) -> None:
    with pytest.raises(InputError, match=r"others could watch; set a secret in STN_TOKEN, .* --serve 8000$"):
        Preview(Address(host, 8000), None, "tiny", True)


def test_an_empty_token_is_no_token() -> None:
    with pytest.raises(InputError, match="--token or STN_TOKEN is empty"):
        Preview(parse_address("0"), "", "tiny", True)


def test_a_port_in_use_is_refused_in_a_sentence(serve: Callable[..., Preview]) -> None:
    port = serve().address.port
    with pytest.raises(InputError, match=rf"^--serve 127\.0\.0\.1:{port}: the port is in use by another program; give"):
        Preview(Address("127.0.0.1", port), None, "tiny", True)


def test_an_address_of_another_machine_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"^--serve 192\.0\.2\.1:8000: is not an address of this machine; give"):
        Preview(Address("192.0.2.1", 8000), "secret", "tiny", True)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".local", "..."])
def test_a_host_that_does_not_exist_is_refused_in_a_sentence(host: str) -> None:
    with pytest.raises(InputError, match=r":0: no such host \(.*\); give a name or an address of this machine$"):
        Preview(Address(host, 0), "secret", "tiny", True)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "stn_runtime.preview.server")
    with pytest.raises(MissingDependencyError, match=r"needs package 'uvicorn', .* pip install 'stn-edge\[serve\]'$"):
        Preview(parse_address("0"), None, "tiny", True)


def test_the_url_carries_the_token_and_the_real_port(serve: Callable[..., Preview]) -> None:
    preview = serve("a&b #ü")
    assert preview.url == f"http://127.0.0.1:{preview.address.port}/?token=a%26b%20%23%C3%BC"
    assert _get(preview, preview.url.partition(str(preview.address.port))[2])[0] == 200


def test_the_url_of_all_addresses_names_one_that_others_can_reach() -> None:
    preview = Preview(parse_address("0.0.0.0:0"), "secret", "tiny", True)
    try:
        host = re.fullmatch(r"http://([\d.]+):\d+/\?token=secret", preview.url)
        assert host is not None
        assert host[1] == "0.0.0.0" or socket.create_connection((host[1], preview.address.port), 5).close() is None
    finally:
        preview.close()


def test_signals_stay_with_whoever_had_them(serve: Callable[..., Preview]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    preview = serve()
    assert _get(preview, "/")[0] == 200
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# What there is to see


def test_the_page_needs_nothing_from_elsewhere_and_may_run_nothing_else(serve: Callable[..., Preview]) -> None:
    status, headers, body = _get(serve(), "/")
    page = body.decode()
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert re.findall(r"https?://[\w.]+", page) == ["http://www.w3.org"]  # the name space of the icon
    assert not re.search(r"\s(style|on\w+)=", page)  # the policy forbids both
    policy = dict(entry.split(" ", 1) for entry in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    for tag in ("script", "style"):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"


def test_there_is_no_snapshot_before_the_first_picture(serve: Callable[..., Preview]) -> None:
    preview = serve()
    assert _get(preview, "/snapshot.jpg")[0] == 503
    preview.show(Frame("cam", 0, 1.0, None, "cam: damaged"), Record("cam", 0, 1.0, None, "cam: damaged"))
    assert _get(preview, "/snapshot.jpg")[0] == 503


def test_the_snapshot_is_the_newest_picture_with_what_was_drawn_on_it(serve: Callable[..., Preview]) -> None:
    preview = serve()
    for level in (10, 200):
        assert preview.show(*_shown(level=level)) is True
    status, headers, body = _get(preview, "/snapshot.jpg")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    picture = _decoded(body)
    assert picture.shape == (300, 400, 3)
    assert abs(int(picture[280, 380, 0]) - 200) < 10
    assert _is_orange(picture[150, 100])  # on the left side of the outline
    assert not _is_orange(picture[150, 110])


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(1600, 2560, (800, 1280)), (2560, 640, (1280, 320)), (720, 1280, (720, 1280))]
)
def test_a_large_picture_is_made_smaller(height: int, width: int, expected: tuple[int, int]) -> None:
    image = np.full((height, width, 3), 128, np.uint8)
    outline = np.array([[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]], np.float32) * (width, height)
    record = Record("cam", 0, None, _prediction(outline.astype(np.float32)))
    drawn = _decoded(annotated_jpeg(Picture(1, image, Frame("cam", 0, None, image), record)))
    assert drawn.shape == (*expected, 3)
    assert _is_orange(drawn[expected[0] // 2, expected[1] // 4])


def test_the_outline_of_a_reduced_picture_is_in_its_pixels() -> None:
    image = np.full((300, 400, 3), 128, np.uint8)
    frame = Frame("x.jpg", 0, None, image, size=(1200, 1600))
    drawn = _decoded(annotated_jpeg(Picture(1, image, frame, Record("x.jpg", 0, None, _prediction(4 * SQUARE)))))
    assert _is_orange(drawn[150, 100])


def test_the_stream_shows_each_new_picture(serve: Callable[..., Preview]) -> None:
    preview = serve()
    client = _open(preview)
    levels = []
    for level in (40, 220):
        preview.show(*_shown(level=level))
        data = _until(lambda data: data.count(b"--frame\r\n") > 1, client)
        head, _, body = data.partition(b"--frame\r\n")[2].partition(b"\r\n\r\n")
        fields = dict(line.split(": ") for line in head.decode().split("\r\n"))
        assert fields["Content-Type"] == "image/jpeg"
        length = int(fields["Content-Length"])
        assert body[length : length + 11] == b"\r\n--frame\r\n"
        levels.append(int(_decoded(body[:length])[280, 380, 0]))
    assert abs(levels[0] - 40) < 10
    assert abs(levels[1] - 220) < 10


def test_opencv_reads_the_stream_as_a_camera(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.show(*_shown())
    capture = cv2.VideoCapture(f"http://127.0.0.1:{preview.address.port}/stream.mjpg")
    done, image = capture.read()
    capture.release()
    assert done
    assert image.shape == (300, 400, 3)


def test_a_frame_is_painted_once_for_all_and_only_when_somebody_looks(
    serve: Callable[..., Preview], monkeypatch: pytest.MonkeyPatch
) -> None:
    painted = []

    def paint(picture: Picture) -> bytes:
        painted.append(picture.number)
        return annotated_jpeg(picture)

    monkeypatch.setattr(preview_app, "annotated_jpeg", paint)
    preview = serve()
    for number in range(5):
        preview.show(*_shown(number))
    assert _get(preview, "/healthz")[0] == 200
    assert painted == []
    clients = [_open(preview) for _ in range(5)]
    for client in clients:
        _until(lambda data: data.count(b"--frame\r\n") > 1, client)
    assert _get(preview, "/snapshot.jpg")[0] == 200
    assert painted == [5]


def test_events_are_the_records_and_the_state(serve: Callable[..., Preview]) -> None:
    preview = serve()
    shown = [_shown(number) for number in range(3)]
    preview.show(*shown[0])
    client = _open(preview, "/events")
    data = _until(lambda data: b"id: 1\n" in data and data.endswith(b"\n\n"), client)
    assert b"content-type: text/event-stream" in data
    for entry in shown[1:]:
        preview.show(*entry)
    data += _until(lambda data: b"id: 3\n" in data and data.endswith(b"\n\n"), client)
    events = _events(data)
    assert [event for kind, event in events if kind == "message"] == [record.fields() for _, record in shown]
    (state, *_) = [event for kind, event in events if kind == "state"]
    assert (state["model"], state["live"], state["name"], state["frames"]) == ("tiny", True, "running", 1)


@pytest.mark.parametrize("name", ["a\n\ndata: b", "a\r\nid: 7", os.fsdecode(b"caf\xe9"), "größe <script>"])
def test_no_name_breaks_an_event(serve: Callable[..., Preview], name: str) -> None:
    preview = serve()
    preview.show(*_shown(source=name))
    data = _until(lambda data: b"id: 1\n" in data and data.endswith(b"\n\n"), _open(preview, "/events"))
    assert [event["source"] for kind, event in _events(data) if kind == "message"] == [name]


def test_a_new_client_is_told_of_the_last_records_only(serve: Callable[..., Preview]) -> None:
    preview = serve()
    for number in range(30):
        preview.show(*_shown(number))
    data = _until(lambda data: b"id: 30\n" in data and data.endswith(b"\n\n"), _open(preview, "/events"))
    assert [event["frame"] for kind, event in _events(data) if kind == "message"] == list(range(20, 30))


def test_a_client_that_is_too_slow_is_told_how_many_records_it_lost(serve: Callable[..., Preview]) -> None:
    preview = serve()
    client = _open(preview, "/events")
    _until(lambda data: b"event: state" in data, client)
    for number in range(1000):
        preview.show(*_shown(number))
    data = b"\r\n\r\n" + _until(lambda data: b"id: 1000\n" in data and data.endswith(b"\n\n"), client)
    events = _events(data[: 4 + data.index(b"id: 1000\n")] + data[data.index(b"id: 1000\n") :])
    lost = sum(event for kind, event in events if kind == "lost")
    assert lost > 0
    assert lost + sum(kind == "message" for kind, _ in events) == 1000
    assert f"stn_dropped_events_total {lost}\n".encode() in _get(preview, "/metrics")[2]


def test_health_follows_the_source(serve: Callable[..., Preview]) -> None:
    preview = serve()
    status, _, body = _get(preview, "/healthz")
    assert (status, json.loads(body)["reason"]) == (503, "no picture yet")
    preview.show(*_shown())
    assert _get(preview, "/healthz")[0] == 200
    preview.show(*_event("source_lost", "cam: stopped sending frames"))
    status, _, body = _get(preview, "/healthz")
    assert (status, json.loads(body)["reason"]) == (503, "cam: stopped sending frames")
    preview.show(*_event("source_back"))
    assert _get(preview, "/healthz")[0] == 200


def test_a_camera_that_is_silent_is_not_healthy(serve: Callable[..., Preview]) -> None:
    preview = serve(stale_seconds=0.05)
    preview.show(*_shown())
    time.sleep(0.1)
    status, _, body = _get(preview, "/healthz")
    assert (status, json.loads(body)["name"]) == (503, "stalled")


def test_a_run_over_files_is_healthy_from_its_start(serve: Callable[..., Preview]) -> None:
    assert _get(serve(live=False), "/healthz")[0] == 200


def test_metrics_are_of_prometheus_type_and_count_who_watches(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.show(*_shown())
    client = _open(preview)
    _until(lambda data: b"--frame" in data, client)
    status, headers, body = _get(preview, "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"stn_frames_total 1\n" in body
    assert b'stn_clients{stream="pictures"} 1\n' in body
    client.close()
    _eventually(lambda: b'stn_clients{stream="pictures"} 0\n' in _get(preview, "/metrics")[2])


# Who is refused


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sécret"}],
    ids=["nothing", "no token", "another token", "another scheme"],
)
def test_who_has_not_the_token_sees_nothing(serve: Callable[..., Preview], path: str, headers: dict[str, str]) -> None:
    preview = serve("sécret")
    preview.show(*_shown())
    for target in (path, f"{path}?token=", f"{path}?token=secret", f"{path}?other=s%C3%A9cret"):
        status, answered, body = _get(preview, target, headers)
        assert (status, body) == (401, b"Unauthorized")
        assert answered["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", PATHS)
def test_who_has_the_token_sees_everything(serve: Callable[..., Preview], path: str) -> None:
    preview = serve("sécret")
    preview.show(*_shown())
    assert _get(preview, f"{path}?token=s%C3%A9cret")[0] == 200
    assert _get(preview, path, {"Authorization": "bearer sécret".encode().decode("latin-1")})[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.1", 421),
        ("localhost:80:80", 421),
        ("", 421),
    ],
)
def test_a_page_from_elsewhere_cannot_come_by_a_name_of_its_own(
    serve: Callable[..., Preview], host: str, status: int
) -> None:
    assert _get(serve(), "/healthz" if status == 421 else "/", {"Host": host})[0] == status


def test_no_other_page_may_embed_or_read_an_answer(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.show(*_shown())
    for path in (*PATHS, "/nothing"):
        _, headers, _ = _get(preview, path, {"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/preview.html",
        "//",
        "/events/",
        "/stream.mjpg/..",
        "/\\..\\x",
    ],
)
def test_there_are_no_files_behind_it(serve: Callable[..., Preview], path: str) -> None:
    assert _get(serve(), path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", PATHS)
def test_it_only_answers_reading(serve: Callable[..., Preview], path: str, method: str) -> None:
    status, headers, _ = _get(serve(), path, method=method)
    assert status == 405
    assert set(headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", PATHS)
def test_head_is_the_answer_without_its_body(serve: Callable[..., Preview], path: str) -> None:
    preview = serve()
    preview.show(*_shown())
    kinds = []
    for method in ("GET", "HEAD"):
        status, headers, body = _get(preview, path, method=method)
        kinds.append((status, headers["content-type"]))
    assert kinds[0] == kinds[1]
    assert body == b""


def test_a_failed_picture_is_a_sentence_and_the_rest_goes_on(
    serve: Callable[..., Preview], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(picture: Picture) -> bytes:
        raise ValueError("no paint left")

    monkeypatch.setattr(preview_app, "annotated_jpeg", fail)
    preview = serve()
    preview.show(*_shown())
    with caplog.at_level(logging.DEBUG):
        assert _get(preview, "/snapshot.jpg")[0] == 500
    told = [entry.getMessage() for entry in caplog.records if entry.name.startswith("stn_runtime")]
    assert told == ["preview: '/snapshot.jpg' could not be answered (no paint left)"]
    assert _get(preview, "/healthz")[0] == 200


# Who cannot hold it up


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 20_000])
def test_a_request_that_is_none_is_refused_without_a_word(
    serve: Callable[..., Preview], request_: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    preview = serve()
    with socket.create_connection(("127.0.0.1", preview.address.port), 30) as client:
        client.sendall(request_)
        assert _rest(client).startswith(b"HTTP/1.1 400 ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "dripping"])
def test_a_request_that_does_not_come_to_its_end_is_cut(
    serve: Callable[..., Preview], monkeypatch: pytest.MonkeyPatch, drip: bytes
) -> None:
    monkeypatch.setattr(preview_server, "_HEAD_SECONDS", 0.5)
    preview = serve()
    with socket.create_connection(("127.0.0.1", preview.address.port), 30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        client.settimeout(0.05)
        ended, end = False, time.monotonic() + 30
        while not ended and time.monotonic() < end:
            try:
                client.sendall(drip)
                ended = client.recv(1) == b""
            except TimeoutError:
                pass
            except ConnectionError:
                ended = True
        assert ended


def test_a_body_that_does_not_come_to_its_end_holds_no_connection(serve: Callable[..., Preview]) -> None:
    preview = serve()
    with socket.create_connection(("127.0.0.1", preview.address.port), 30) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx")
        assert _rest(client).startswith(b"HTTP/1.1 405 ")


def _connections(preview: Preview) -> list[Any]:
    return list(preview._server.server_state.connections)


def _noise(number: int) -> tuple[Frame, Record]:
    """A picture that makes a large JPEG."""
    image = np.random.default_rng(number).integers(0, 255, (960, 1280, 3), np.uint8)
    return Frame("cam", number, 1.0, image), Record("cam", number, 1.0, _prediction())


def test_clients_that_never_read_hold_one_picture_each_and_nobody_up(serve: Callable[..., Preview]) -> None:
    preview = serve()
    frames = [_noise(number) for number in range(4)]
    preview.show(*frames[0])
    jpeg = _get(preview, "/snapshot.jpg")[2]
    assert len(jpeg) > 500_000
    deaf = [_open(preview, path, buffer=4096) for path in ("/stream.mjpg", "/events") for _ in range(10)]
    reader = _open(preview)
    for number in range(1, 30):
        preview.show(*frames[number % 4])
        _until(lambda data: data.count(b"--frame\r\n") > 0, reader)
    held = [connection.transport.get_write_buffer_size() for connection in _connections(preview)]
    assert len(held) == 21
    assert sum(size > 100_000 for size in held) >= 10  # they are held up indeed
    assert max(held) < 1.2 * len(jpeg)
    assert len(deaf) == 20


def test_a_client_that_never_reads_is_cut_and_one_that_reads_is_not(
    serve: Callable[..., Preview], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_server, "_STALL_SECONDS", 1.0)
    preview = serve()
    preview.show(*_noise(0))
    deaf = [_open(preview, buffer=4096) for _ in range(3)] + [_open(preview, "/snapshot.jpg", buffer=4096)]
    reader = _open(preview)
    _until(lambda data: b"--frame\r\n" in data, reader)
    assert len(_connections(preview)) == 5
    ended = threading.Event()
    threading.Thread(target=lambda: (_rest(reader), ended.set()), daemon=True).start()
    _eventually(lambda: len(_connections(preview)) == 1)
    assert not ended.is_set()
    assert len(deaf) == 4


def test_only_so_many_may_watch_and_a_place_becomes_free_again(
    serve: Callable[..., Preview], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_app, "WATCHERS", 2)
    preview = serve()
    preview.show(*_shown())
    watchers = [_open(preview) for _ in range(2)]
    for watcher in watchers:
        _until(lambda data: b"--frame\r\n" in data, watcher)
    assert _get(preview, "/stream.mjpg")[0] == 503
    assert _get(preview, "/events")[0] == 200
    watchers[0].close()
    _eventually(lambda: _get(preview, "/stream.mjpg")[0] == 200)


def test_more_connections_than_there_are_places_for_are_cut(
    serve: Callable[..., Preview], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_server, "_CONNECTIONS", 3)
    preview = serve()
    idle = [socket.create_connection(("127.0.0.1", preview.address.port), 30) for _ in range(3)]
    _eventually(lambda: len(_connections(preview)) == 3)
    with socket.create_connection(("127.0.0.1", preview.address.port), 30) as late:
        assert _rest(late) == b""
    idle[0].close()
    _eventually(lambda: len(_connections(preview)) == 2)
    assert _get(preview, "/")[0] == 200


def test_closing_ends_every_stream_and_frees_the_port(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.show(*_noise(0))
    clients = [_open(preview), _open(preview, "/events"), _open(preview, buffer=4096)]
    _until(lambda data: b"--frame\r\n" in data, clients[0])
    _until(lambda data: b"id: 1\n" in data, clients[1])
    _eventually(lambda: any(entry.transport.get_write_buffer_size() > 100_000 for entry in _connections(preview)))
    preview.close()
    assert not any(thread.name == "stn-preview" for thread in threading.enumerate())
    for client in clients:
        _rest(client)
    again = Preview(preview.address, None, "tiny", True)
    assert _get(again, "/")[0] == 200
    again.close()


def test_closing_twice_or_at_once_does_no_harm(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.close()
    preview.close()
    assert preview.show(*_shown()) is True
