"""MJPEG over HTTP: byte streams made by hand, and small servers that ask for passwords."""

import base64
import hashlib
import re
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from stn_runtime import InputError
from stn_runtime.sources import mjpeg
from stn_runtime.sources.mjpeg import MjpegStream, NotMjpegError, whole_jpeg

HANG = 20.0  # seconds after which a test says that something hangs


def _jpeg(seed: int, *options: int, side: int = 16) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    done, data = cv2.imencode(".jpg", noise, options)
    assert done
    return data.tobytes()


def _with_thumbnail(jpeg: bytes, thumbnail: bytes) -> bytes:
    body = b"Exif\0\0MM\0\x2a" + bytes(12) + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


JPEGS = [_jpeg(seed) for seed in range(3)]
KINDS = {
    "baseline": JPEGS[0],
    "progressive": _jpeg(1, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": _jpeg(2, cv2.IMWRITE_JPEG_RST_INTERVAL, 1, side=40),
    "optimised": _jpeg(3, cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "thumbnail": _with_thumbnail(JPEGS[0], _jpeg(9)),
}


# --- whole pictures


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_jpeg_is_itself(kind: str) -> None:
    assert whole_jpeg(KINDS[kind]) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rest", [b"\r\n", b"\0", b"\xff\xd9", b"--frame\r\n", JPEGS[1]], ids=repr)
def test_what_follows_a_jpeg_is_left_away(kind: str, rest: bytes) -> None:
    assert whole_jpeg(KINDS[kind] + rest) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_is_cut_anywhere_is_none(kind: str) -> None:
    assert [end for end in range(len(KINDS[kind])) if whole_jpeg(KINDS[kind][:end]) is not None] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("marker", [0x01, 0xC0, 0xD8, 0xE0])
def test_a_marker_within_a_scan_that_cannot_be_there_is_damage(kind: str, marker: int) -> None:
    jpeg = KINDS[kind]
    scan = jpeg.rindex(b"\xff\xda")
    begin = scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")
    middle = (begin + len(jpeg)) // 2
    assert jpeg[middle - 1] != 0xFF
    assert whole_jpeg(jpeg[:middle] + bytes([0xFF, marker]) + jpeg[middle + 2 :]) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"GIF89a" + JPEGS[0], b"\0" + JPEGS[0]]
)
def test_what_is_no_jpeg_is_none(data: bytes) -> None:
    assert whole_jpeg(data) is None


# --- multipart


class Played:
    """An answer whose body comes in the given pieces."""

    def __init__(self, pieces: Sequence[bytes], content_type: str) -> None:
        self.headers = Message()
        self.headers["Content-Type"] = content_type
        self._pieces = [piece for piece in pieces if piece]
        self.closed = False

    def read1(self, most: int) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > most:
            self._pieces.insert(0, piece[most:])
        return piece[:most]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def receive(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bytes]]:
    """Return the pictures of a stream that comes in pieces."""

    def received(
        *pieces: bytes, content_type: str = "multipart/x-mixed-replace; boundary=frame", most: int = 1000
    ) -> list[bytes]:
        monkeypatch.setattr(mjpeg, "_opened", lambda *_: Played(pieces, content_type))
        stream = MjpegStream("http://camera", 5.0)
        pictures = []
        while (found := stream.read()) is not None and len(pictures) < most:
            pictures.append(found[1])
        return pictures

    return received


def _part(
    jpeg: bytes, length: int | None = None, *, end: bytes = b"\r\n", head: bytes = b"", delimiter: bytes = b"--frame"
) -> bytes:
    """A part as cameras write it; without ``length``, it says none."""
    fields = b"Content-Type: image/jpeg" + end + head
    fields += b"Content-Length: %d" % length + end if length is not None else b""
    return delimiter + end + fields + end + jpeg + end


STREAMS = {
    "lengths": b"".join(_part(jpeg, len(jpeg)) for jpeg in JPEGS) + b"--frame--\r\n",
    "no lengths": b"".join(_part(jpeg) for jpeg in JPEGS) + b"--frame--\r\n",
    "bare newlines": b"".join(_part(jpeg, len(jpeg), end=b"\n") for jpeg in JPEGS),
    "no lengths, bare newlines": b"".join(_part(jpeg, end=b"\n") for jpeg in JPEGS),
    "no newline before the delimiter": b"".join(_part(jpeg, len(jpeg))[:-2] for jpeg in JPEGS),
    "neither newline nor length": b"".join(_part(jpeg)[:-2] for jpeg in JPEGS),
    "no fields": b"".join(b"--frame\r\n\r\n" + jpeg + b"\r\n" for jpeg in JPEGS),
    "a preamble": b"HELLO\r\n\r\n" + b"".join(_part(jpeg, len(jpeg)) for jpeg in JPEGS),
    "a length of zero": b"".join(_part(jpeg, 0) for jpeg in JPEGS),
}


@pytest.mark.parametrize("name", STREAMS)
def test_all_pictures_come_wherever_the_stream_is_cut(receive: Callable[..., list[bytes]], name: str) -> None:
    stream = STREAMS[name]
    for cut in range(len(stream)):
        assert receive(stream[:cut], stream[cut:]) == JPEGS, cut


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_all_pictures_come_in_pieces_of_any_size(receive: Callable[..., list[bytes]], name: str, size: int) -> None:
    stream = STREAMS[name]
    assert receive(*(stream[at : at + size] for at in range(0, len(stream), size))) == JPEGS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("says", [True, False], ids=["length", "no length"])
def test_a_jpeg_of_any_kind_comes_wherever_it_is_cut(
    receive: Callable[..., list[bytes]], kind: str, says: bool
) -> None:
    jpeg = KINDS[kind]
    stream = 2 * _part(jpeg, len(jpeg) if says else None)
    for cut in range(len(stream)):
        assert receive(stream[:cut], stream[cut:]) == [jpeg, jpeg], cut


def test_a_picture_without_a_length_does_not_wait_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played([_part(JPEGS[0])], "multipart/x-mixed-replace; boundary=frame")
    monkeypatch.setattr(mjpeg, "_opened", lambda *_: played)
    stream = MjpegStream("http://camera", 5.0)
    monkeypatch.setattr(played, "read1", lambda _: played._pieces.pop(0))  # fails when asked for more
    found = stream.read()
    assert found is not None
    assert found[1] == JPEGS[0]


@pytest.mark.parametrize(
    "head", [b"content-LENGTH: %d\r\n", b"Content-Length:%d\r\n", b"X-A: 1\r\nContent-Length:\t%d \r\n"]
)
def test_a_length_is_read_however_it_is_written(receive: Callable[..., list[bytes]], head: bytes) -> None:
    # Without the length, what looks like a delimiter within the picture's comment would end it.
    comment = b"\r\n--frame\r\n\r\n"
    jpegs = [jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + jpeg[2:] for jpeg in JPEGS]
    assert receive(*(_part(jpeg, head=head % len(jpeg)) for jpeg in jpegs)) == jpegs


@pytest.mark.parametrize("wrong", [-300, -2, -1, *range(1, 12), 60, 300])
def test_a_length_that_is_wrong_costs_that_picture_at_most(receive: Callable[..., list[bytes]], wrong: int) -> None:
    first, second, third = JPEGS
    stream = _part(first, len(first) + wrong) + _part(second, len(second)) + _part(third, len(third))
    assert receive(stream) == (JPEGS if wrong > 0 else [second, third])


def test_a_length_beyond_all_reason_is_passed_over(receive: Callable[..., list[bytes]]) -> None:
    stream = _part(JPEGS[0], 999_999_999) + _part(JPEGS[1], len(JPEGS[1]))
    assert receive(stream) == [JPEGS[1]]


@pytest.mark.parametrize("says", [True, False], ids=["length", "no length"])
def test_a_torn_picture_is_passed_over_and_the_next_ones_come(receive: Callable[..., list[bytes]], says: bool) -> None:
    torn = JPEGS[0][:-50]
    stream = b"".join(_part(data, len(data) if says else None) for data in (torn, *JPEGS))
    assert receive(stream) == JPEGS


@pytest.mark.parametrize("wrong", range(1, 12))
def test_a_torn_picture_with_a_wrong_length_costs_no_other(receive: Callable[..., list[bytes]], wrong: int) -> None:
    torn = JPEGS[0][:-50]
    assert receive(_part(torn, len(torn) + wrong) + STREAMS["lengths"]) == JPEGS


def test_a_picture_that_the_connection_cuts_is_none(receive: Callable[..., list[bytes]]) -> None:
    stream = STREAMS["lengths"][: -len(JPEGS[2]) // 2]
    assert receive(stream) == JPEGS[:2]


@pytest.mark.parametrize("noise", [b"\0" * 5000, b"--fram" * 100, b"\r\n\r\n", b"--", bytes(range(256)) * 20], ids=len)
def test_noise_between_parts_costs_nothing(receive: Callable[..., list[bytes]], noise: bytes) -> None:
    assert receive(*(noise + _part(jpeg, len(jpeg)) for jpeg in JPEGS), noise) == JPEGS


def test_a_part_of_another_kind_is_passed_over(receive: Callable[..., list[bytes]]) -> None:
    text = b"--frame\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello\r\n"
    assert receive(text + text.join(_part(jpeg, len(jpeg)) for jpeg in JPEGS) + text) == JPEGS


def test_a_header_without_end_does_not_fill_the_memory(receive: Callable[..., list[bytes]]) -> None:
    endless = [b"--frame\r\nX: ", *[b"y" * 65536] * 50, b"\r\n"]  # 3 MB
    tracemalloc.start()
    try:
        assert receive(*endless, _part(JPEGS[0], len(JPEGS[0]))) == JPEGS[:1]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000


@pytest.mark.parametrize(
    ("content_type", "delimiter"),
    [
        ("multipart/x-mixed-replace; boundary=frame", b"--frame"),
        ('multipart/x-mixed-replace; boundary="frame"', b"--frame"),
        ("multipart/x-mixed-replace;boundary=--frame", b"--frame"),  # as many cameras have it
        ("multipart/x-mixed-replace;boundary=--frame", b"----frame"),  # as RFC 2046 has it
        ('multipart/x-mixed-replace; charset=x; BOUNDARY="--a b:c"', b"--a b:c"),
        ("Multipart/X-Mixed-Replace; boundary=ipcamera_0.1+(x)", b"--ipcamera_0.1+(x)"),
        ("multipart/x-mixed-replace", b"--whatever"),
    ],
)
def test_a_boundary_is_understood_however_it_is_written(
    receive: Callable[..., list[bytes]], content_type: str, delimiter: bytes
) -> None:
    stream = b"".join(_part(jpeg, len(jpeg), delimiter=delimiter) for jpeg in JPEGS)
    assert receive(stream, content_type=content_type) == JPEGS


@pytest.mark.parametrize("content_type", ["text/html", "image/jpeg", "multipart/mixed; boundary=x", "video/mp4", "x"])
def test_what_is_no_mjpeg_says_what_it_is_and_is_closed(monkeypatch: pytest.MonkeyPatch, content_type: str) -> None:
    played = Played([], content_type)
    monkeypatch.setattr(mjpeg, "_opened", lambda *_: played)
    with pytest.raises(NotMjpegError, match=content_type.split(";")[0] if "/" in content_type else "text/plain"):
        MjpegStream("http://camera", 5.0)
    assert played.closed


# --- over a connection


class Server:
    """Answers on this machine by ``answer(handler)``."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Any], None]], int]]:
    """Start a server; returns its port."""
    started: list[Server] = []

    def start(answer: Callable[[Any], None]) -> int:
        started.append(Server(answer))
        return started[-1].port

    yield start
    for entry in started:
        entry.server.shutdown()
        entry.server.server_close()


def _send(handler: Any) -> None:  # noqa: ANN401
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()
    handler.wfile.write(STREAMS["lengths"])


def _refuse(handler: Any, challenge: str) -> None:  # noqa: ANN401
    handler.send_response(401)
    handler.send_header("WWW-Authenticate", challenge)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _basic(user: str, password: str) -> Callable[[Any], None]:
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def answer(handler: Any) -> None:  # noqa: ANN401
        if handler.headers["Authorization"] == wanted:
            _send(handler)
        else:
            _refuse(handler, 'Basic realm="camera"')

    return answer


def _digest(user: str, password: str, algorithm: str) -> Callable[[Any], None]:
    """RFC 7616 with quality of protection "auth", checked without the standard library's client."""

    def digest(text: str) -> str:
        return hashlib.new({"MD5": "md5", "SHA": "sha1"}[algorithm], text.encode()).hexdigest()

    def answer(handler: Any) -> None:  # noqa: ANN401
        given = dict(re.findall(r'(\w+)="?([^",]+)"?', handler.headers["Authorization"] or ""))
        secret = digest(f"{user}:camera:{password}")
        request = digest(f"GET:{handler.path}")
        parts = (secret, "n0nce", given.get("nc", ""), given.get("cnonce", ""), "auth", request)
        if given.get("response") == digest(":".join(parts)) and given["uri"] == handler.path:
            _send(handler)
        else:
            _refuse(handler, f'Digest realm="camera", qop="auth", algorithm={algorithm}, nonce="n0nce"')

    return answer


@pytest.mark.parametrize("kind", ["basic", "MD5", "SHA"])
@pytest.mark.parametrize(("user", "password"), [("admin", "secret"), ("a b", "p@ss:w/rd%#")])
def test_a_password_in_the_address_opens_a_camera(
    serve: Callable[..., int], kind: str, user: str, password: str
) -> None:
    port = serve(_basic(user, password) if kind == "basic" else _digest(user, password, kind))
    quoted = [quote(word, safe="") for word in (user, password)]
    stream = MjpegStream(f"http://{':'.join(quoted)}@127.0.0.1:{port}/stream?size=1", 5.0)
    assert [found[1] for found in iter(stream.read, None)] == JPEGS
    stream.release()


@pytest.mark.parametrize("login", ["", "admin:wrong@", "admin@"])
@pytest.mark.parametrize("kind", ["basic", "digest"])
def test_a_wrong_or_missing_password_is_told_with_its_remedy(serve: Callable[..., int], kind: str, login: str) -> None:
    port = serve(_basic("admin", "secret") if kind == "basic" else _digest("admin", "secret", "MD5"))
    with pytest.raises(InputError, match=r"^answers '401 .+'; give user and password as http://USER:PASSWORD@\.\.\.$"):
        MjpegStream(f"http://{login}127.0.0.1:{port}/", 5.0)


@pytest.mark.parametrize("login", ["", "admin:secret@"])
@pytest.mark.parametrize("challenge", ["Bearer realm=camera", 'Digest realm="c", nonce="n", algorithm=MD9, qop="auth"'])
def test_an_unknown_way_to_ask_for_a_password_is_one_sentence(
    serve: Callable[..., int], login: str, challenge: str
) -> None:
    port = serve(lambda handler: _refuse(handler, challenge))
    with pytest.raises(InputError, match=r"^(answers '401|cannot be opened \()"):
        MjpegStream(f"http://{login}127.0.0.1:{port}/", 5.0)


@pytest.mark.parametrize(("status", "told"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_a_refusal_is_told_as_the_camera_says_it(serve: Callable[..., int], status: int, told: str) -> None:
    port = serve(lambda handler: handler.send_error(status))
    with pytest.raises(InputError, match=f"^answers '{told}'$"):
        MjpegStream(f"http://127.0.0.1:{port}/", 5.0)


def test_a_page_is_no_mjpeg(serve: Callable[..., int]) -> None:
    def page(handler: Any) -> None:  # noqa: ANN401
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html; charset=utf-8")
        handler.end_headers()

    with pytest.raises(NotMjpegError, match=r"^text/html$"):
        MjpegStream(f"http://127.0.0.1:{serve(page)}/", 5.0)


@pytest.fixture
def answer_bytes() -> Iterator[Callable[[bytes], int]]:
    """Start a server that answers every request with these bytes and hangs up; returns its port."""
    servers = []

    def start(answer: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            with suppress(OSError):  # closed at the end
                while True:
                    connection, _ = server.accept()
                    with connection:
                        requests.append(connection.recv(1 << 16))
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    requests: list[bytes] = []
    start.requests = requests  # type: ignore[attr-defined]
    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


HEADERS = b"Content-Type: multipart/x-mixed-replace;boundary=frame\r\nServer: cam\r\n\r\n"


@pytest.mark.parametrize(
    "head", [HEADERS, b"ICY 200 OK\r\n" + HEADERS, b"\r\n" + HEADERS, b"200 OK\n" + HEADERS.replace(b"\r", b""), b""]
)
def test_a_camera_without_a_status_line_gives_its_pictures(answer_bytes: Callable[[bytes], int], head: bytes) -> None:
    stream = MjpegStream(f"http://127.0.0.1:{answer_bytes(head + STREAMS['lengths'])}/s?a=b%20c", 5.0)
    pictures = []
    while (part := stream.read()) is not None:
        pictures.append(part[1])
    assert pictures == JPEGS
    stream.release()


def test_a_camera_without_a_status_line_gets_the_password(answer_bytes: Any) -> None:  # noqa: ANN401
    port = answer_bytes(HEADERS + STREAMS["lengths"])
    MjpegStream(f"http://me:p%40ss@127.0.0.1:{port}/s", 5.0).release()
    assert b"\r\nAuthorization: Basic " + base64.b64encode(b"me:p@ss") + b"\r\n" in answer_bytes.requests[-1]


@pytest.mark.parametrize("answer", [b"hello\r\n\r\n", b"Content-Type: text/html\r\n\r\n<html>"])
def test_an_answer_without_status_line_and_pictures_is_no_mjpeg(
    answer_bytes: Callable[[bytes], int], answer: bytes
) -> None:
    with pytest.raises(NotMjpegError, match=r"^text/(plain|html)$"):
        MjpegStream(f"http://127.0.0.1:{answer_bytes(answer)}/", 5.0)


def test_a_camera_that_hangs_up_is_one_sentence(answer_bytes: Callable[[bytes], int]) -> None:
    with pytest.raises(InputError, match=r"^cannot be opened \(the connection was closed without an answer\)$"):
        MjpegStream(f"http://127.0.0.1:{answer_bytes(b'')}/", 5.0)


def test_where_nobody_answers_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^cannot be opened \(.*refused"):
        MjpegStream("http://127.0.0.1:9/", 5.0)


@pytest.mark.parametrize("address", ["http:///x", "http://a b/"])
def test_an_address_that_leads_nowhere_is_one_sentence(address: str) -> None:
    with pytest.raises(InputError, match=r"^cannot be opened \("):
        MjpegStream(address, 5.0)


@pytest.mark.parametrize("address", ["http://[::1/", "http://127.0.0.1:port/", "http://user:pa/ss@camera/x"])
def test_an_address_that_is_none_is_one_sentence_without_the_password(address: str) -> None:
    with pytest.raises(InputError, match=r"^is no address; write '@' and '/' within a password as %40 and %2F$"):
        MjpegStream(address, 5.0)


@pytest.fixture
def end() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_camera_that_accepts_and_says_nothing_is_refused_in_time(
    serve: Callable[..., int], end: threading.Event
) -> None:
    port = serve(lambda _: end.wait(HANG))
    began = time.monotonic()
    with pytest.raises(InputError, match=r"^cannot be opened \(timed out\)$"):
        MjpegStream(f"http://127.0.0.1:{port}/", 0.2)
    assert time.monotonic() - began < HANG / 2


@pytest.mark.parametrize("goes_on", ["silence", "noise", "half a picture", "torn pictures"])
def test_a_stream_without_pictures_fails_in_time(serve: Callable[..., int], end: threading.Event, goes_on: str) -> None:
    chatter = {"noise": b"\0\1\2", "torn pictures": _part(JPEGS[0][:-50], len(JPEGS[0]) - 50)}

    def answer(handler: Any) -> None:  # noqa: ANN401
        _send(handler)
        if goes_on == "half a picture":
            handler.wfile.write(_part(JPEGS[0], len(JPEGS[0]))[:300])
        try:
            while not end.wait(0.02 if goes_on in chatter else HANG):
                handler.wfile.write(chatter[goes_on])
        except OSError:  # the reader has left
            pass

    stream = MjpegStream(f"http://127.0.0.1:{serve(answer)}/", 0.3)
    assert [stream.read()[1] for _ in range(3)] == JPEGS  # type: ignore[index]
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        stream.read()
    assert time.monotonic() - began < HANG / 2
    stream.release()


def test_a_picture_has_the_time_at_which_it_began(serve: Callable[..., int], end: threading.Event) -> None:
    began: list[float] = []

    def answer(handler: Any) -> None:  # noqa: ANN401
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        for jpeg in JPEGS:
            part = _part(jpeg, len(jpeg))
            began.append(time.time())
            handler.wfile.write(part[:100])
            end.wait(0.15)
            handler.wfile.write(part[100:])

    stream = MjpegStream(f"http://127.0.0.1:{serve(answer)}/", 5.0)
    moments = [found[0] for found in iter(stream.read, None)]
    assert len(moments) == 3
    assert all(later - earlier > 0.1 for earlier, later in pairwise(moments))
    assert all(-0.01 < moment - start < 0.14 for moment, start in zip(moments, began, strict=True))
