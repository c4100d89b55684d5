"""Slow and stuck clients of the preview, and its end."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from stn_runtime.preview.connection import Connection
from stn_runtime.preview.limits import Limits
from stn_runtime.preview.preview import Preview
from tests.runtime.preview.clients import (
    classified_frame,
    get,
    noise_frame,
    open_stream,
    read_to_end,
    read_until,
)
from tests.support.waiting import until


def open_connections(preview: Preview) -> list[Any]:
    return list(preview._server.connections)


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 20_000])
def test_a_malformed_request_is_refused_silently(
    serve: Callable[..., Preview], request_: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    preview = serve()
    with socket.create_connection(("127.0.0.1", preview.address.port), 30) as client:
        client.sendall(request_)
        assert read_to_end(client).startswith(b"HTTP/1.1 400 ")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "dripping"])
def test_a_request_whose_head_does_not_end_is_cut(serve: Callable[..., Preview], drip: bytes) -> None:
    preview = serve(limits=Limits(head_seconds=0.5))
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


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_a_stream_whose_head_came_in_pieces_goes_on(serve: Callable[..., Preview], line_end: bytes) -> None:
    preview = serve(limits=Limits(head_seconds=0.5))
    head = line_end.join([b"GET /events HTTP/1.1", b"Host: localhost", b"", b""])
    with socket.create_connection(("127.0.0.1", preview.address.port), 30) as client:
        for number in range(len(head)):
            client.sendall(head[number : number + 1])
        read_until(lambda data: data.count(b"event: state") == 3, client)  # one a second


def test_a_connection_adds_no_name_that_uvicorn_uses_and_overrides_only_what_asyncio_documents() -> None:
    """An update of uvicorn that adds such a name fails here and not on a device."""
    config = uvicorn.Config(lambda: None, ws="none", lifespan="off", log_config=None)
    loop = asyncio.new_event_loop()
    theirs = H11Protocol(config=config, server_state=ServerState(), app_state={}, _loop=loop)
    loop.close()
    own = {name for name in (*vars(Connection), *Connection.__annotations__) if not name.startswith("__")}
    assert {"limits", "peers", "stream", "data_received"} <= own
    assert own & set(dir(theirs)) <= set(dir(asyncio.Protocol))


def test_a_body_that_does_not_end_holds_no_connection(serve: Callable[..., Preview]) -> None:
    preview = serve()
    with socket.create_connection(("127.0.0.1", preview.address.port), 30) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx")
        assert read_to_end(client).startswith(b"HTTP/1.1 405 ")


def test_clients_that_never_read_hold_one_picture_each_and_delay_no_other_client(serve: Callable[..., Preview]) -> None:
    preview = serve()
    frames = [noise_frame(number) for number in range(4)]
    preview.show(*frames[0])
    jpeg = get(preview, "/snapshot.jpg")[2]
    assert len(jpeg) > 500_000
    stuck = [open_stream(preview, path, buffer=4096) for path in ("/stream.mjpg", "/events") for _ in range(10)]
    reader = open_stream(preview)
    for number in range(1, 30):
        preview.show(*frames[number % 4])
        read_until(lambda data: data.count(b"--frame\r\n") > 0, reader)
    held = [connection.stream.get_write_buffer_size() for connection in open_connections(preview)]
    assert len(held) == 21
    assert sum(size > 100_000 for size in held) >= 10  # the picture streams are stuck indeed
    assert max(held) < 1.2 * len(jpeg)
    assert len(stuck) == 20


def test_a_client_that_never_reads_is_cut_and_one_that_reads_is_not(serve: Callable[..., Preview]) -> None:
    preview = serve(limits=Limits(stall_seconds=1.0))
    preview.show(*noise_frame(0))
    stuck = [open_stream(preview, buffer=4096) for _ in range(3)] + [open_stream(preview, "/snapshot.jpg", buffer=4096)]
    reader = open_stream(preview)
    read_until(lambda data: b"--frame\r\n" in data, reader)
    assert len(open_connections(preview)) == 5
    ended = threading.Event()
    threading.Thread(target=lambda: (read_to_end(reader), ended.set()), daemon=True).start()
    until(lambda: len(open_connections(preview)) == 1)
    assert not ended.is_set()
    assert len(stuck) == 4


def test_a_stream_has_a_limit_of_clients_and_takes_another_when_one_leaves(serve: Callable[..., Preview]) -> None:
    preview = serve(limits=Limits(watchers=2))
    preview.show(*classified_frame())
    clients = [open_stream(preview) for _ in range(2)]
    for client in clients:
        read_until(lambda data: b"--frame\r\n" in data, client)
    assert get(preview, "/stream.mjpg")[0] == 503
    assert get(preview, "/events")[0] == 200
    clients[0].close()
    until(lambda: get(preview, "/stream.mjpg")[0] == 200)


def test_connections_over_the_limit_are_cut(serve: Callable[..., Preview]) -> None:
    preview = serve(limits=Limits(connections=3))
    idle = [socket.create_connection(("127.0.0.1", preview.address.port), 30) for _ in range(3)]
    until(lambda: len(open_connections(preview)) == 3)
    with socket.create_connection(("127.0.0.1", preview.address.port), 30) as late:
        assert read_to_end(late) == b""
    idle[0].close()
    until(lambda: len(open_connections(preview)) == 2)
    assert get(preview, "/")[0] == 200


def test_closing_ends_every_stream_and_frees_the_port(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.show(*noise_frame(0))
    clients = [open_stream(preview), open_stream(preview, "/events"), open_stream(preview, buffer=4096)]
    read_until(lambda data: b"--frame\r\n" in data, clients[0])
    read_until(lambda data: b"id: 1\n" in data, clients[1])
    until(lambda: any(entry.stream.get_write_buffer_size() > 100_000 for entry in open_connections(preview)))
    preview.close()
    assert not any(thread.name == "stn-preview" for thread in threading.enumerate())
    for client in clients:
        read_to_end(client)
    again = Preview(preview.address, None, "tiny", True)
    assert get(again, "/")[0] == 200
    again.close()


def test_closing_twice_or_at_once_does_no_harm(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.close()
    preview.close()
    assert preview.show(*classified_frame()) is True
