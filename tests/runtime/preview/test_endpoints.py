"""Answers of the preview's endpoints."""

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Callable

import cv2
import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from stn_runtime.preview.preview import Preview
from stn_runtime.records.record import Record
from stn_runtime.sources.frame import Frame
from tests.runtime.preview.clients import (
    PATHS,
    camera_event,
    classified_frame,
    decoded,
    get,
    is_orange,
    open_stream,
    parse_events,
    read_until,
)
from tests.support.waiting import until


def test_the_page_loads_nothing_from_other_servers_and_runs_only_its_own_script(serve: Callable[..., Preview]) -> None:
    status, headers, body = get(serve(), "/")
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
    assert get(preview, "/snapshot.jpg")[0] == 503
    preview.show(Frame("cam", 0, 1.0, None, "cam: damaged"), Record("cam", 0, 1.0, None, "cam: damaged"))
    assert get(preview, "/snapshot.jpg")[0] == 503


def test_the_snapshot_is_the_newest_picture_with_its_outline(serve: Callable[..., Preview]) -> None:
    preview = serve()
    for level in (10, 200):
        assert preview.show(*classified_frame(level=level)) is True
    status, headers, body = get(preview, "/snapshot.jpg")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    picture = decoded(body)
    assert picture.shape == (300, 400, 3)
    assert abs(int(picture[280, 380, 0]) - 200) < 10
    assert is_orange(picture[150, 100])  # on the left side of the outline
    assert not is_orange(picture[150, 110])


def test_the_stream_shows_each_new_picture(serve: Callable[..., Preview]) -> None:
    preview = serve()
    client = open_stream(preview)
    levels = []
    for level in (40, 220):
        preview.show(*classified_frame(level=level))
        data = read_until(lambda data: data.count(b"--frame\r\n") > 1, client)
        head, _, body = data.partition(b"--frame\r\n")[2].partition(b"\r\n\r\n")
        fields = dict(line.split(": ") for line in head.decode().split("\r\n"))
        assert fields["Content-Type"] == "image/jpeg"
        length = int(fields["Content-Length"])
        assert body[length : length + 11] == b"\r\n--frame\r\n"
        levels.append(int(decoded(body[:length])[280, 380, 0]))
    assert abs(levels[0] - 40) < 10
    assert abs(levels[1] - 220) < 10


def test_opencv_reads_the_stream_as_a_camera(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.show(*classified_frame())
    capture = cv2.VideoCapture(f"http://127.0.0.1:{preview.address.port}/stream.mjpg")
    done, image = capture.read()
    capture.release()
    assert done
    assert image.shape == (300, 400, 3)


def test_events_are_the_records_and_the_state(serve: Callable[..., Preview]) -> None:
    preview = serve()
    shown = [classified_frame(number) for number in range(3)]
    preview.show(*shown[0])
    client = open_stream(preview, "/events")
    data = read_until(lambda data: b"id: 1\n" in data and data.endswith(b"\n\n"), client)
    assert b"content-type: text/event-stream" in data
    for entry in shown[1:]:
        preview.show(*entry)
    data += read_until(lambda data: b"id: 3\n" in data and data.endswith(b"\n\n"), client)
    events = parse_events(data)
    assert [event for kind, event in events if kind == "message"] == [record.fields() for _, record in shown]
    (state, *_) = [event for kind, event in events if kind == "state"]
    assert (state["model"], state["live"], state["name"], state["frames"]) == ("tiny", True, "running", 1)


@pytest.mark.parametrize("name", ["a\n\ndata: b", "a\r\nid: 7", os.fsdecode(b"caf\xe9"), "größe <script>"])
def test_no_name_breaks_an_event(serve: Callable[..., Preview], name: str) -> None:
    preview = serve()
    preview.show(*classified_frame(source=name))
    data = read_until(lambda data: b"id: 1\n" in data and data.endswith(b"\n\n"), open_stream(preview, "/events"))
    assert [event["source"] for kind, event in parse_events(data) if kind == "message"] == [name]


def test_a_new_client_gets_the_last_records_only(serve: Callable[..., Preview]) -> None:
    preview = serve()
    for number in range(30):
        preview.show(*classified_frame(number))
    data = read_until(lambda data: b"id: 30\n" in data and data.endswith(b"\n\n"), open_stream(preview, "/events"))
    assert [event["frame"] for kind, event in parse_events(data) if kind == "message"] == list(range(20, 30))


def test_a_client_that_is_too_slow_gets_the_number_of_records_it_lost(serve: Callable[..., Preview]) -> None:
    preview = serve()
    client = open_stream(preview, "/events")
    read_until(lambda data: b"event: state" in data, client)
    for number in range(1000):
        preview.show(*classified_frame(number))
    data = b"\r\n\r\n" + read_until(lambda data: b"id: 1000\n" in data and data.endswith(b"\n\n"), client)
    events = parse_events(data[: 4 + data.index(b"id: 1000\n")] + data[data.index(b"id: 1000\n") :])
    lost = sum(event for kind, event in events if kind == "lost")
    assert lost > 0
    assert lost + sum(kind == "message" for kind, _ in events) == 1000
    assert f"stn_dropped_events_total {lost}.0\n".encode() in get(preview, "/metrics")[2]


def test_health_follows_the_source(serve: Callable[..., Preview]) -> None:
    preview = serve()
    status, _, body = get(preview, "/healthz")
    assert (status, json.loads(body)["reason"]) == (503, "no picture yet")
    preview.show(*classified_frame())
    assert get(preview, "/healthz")[0] == 200
    preview.show(*camera_event("source_lost", "cam: stopped sending frames"))
    status, _, body = get(preview, "/healthz")
    assert (status, json.loads(body)["reason"]) == (503, "cam: stopped sending frames")
    preview.show(*camera_event("source_back"))
    assert get(preview, "/healthz")[0] == 200


def test_a_camera_that_is_silent_is_not_healthy(serve: Callable[..., Preview]) -> None:
    preview = serve(stale_seconds=0.05)
    preview.show(*classified_frame())
    time.sleep(0.1)
    status, _, body = get(preview, "/healthz")
    assert (status, json.loads(body)["name"]) == (503, "stalled")


def test_a_run_over_files_is_healthy_from_its_start(serve: Callable[..., Preview]) -> None:
    assert get(serve(live=False), "/healthz")[0] == 200


def test_metrics_have_the_type_of_prometheus_text_and_count_clients(serve: Callable[..., Preview]) -> None:
    preview = serve()
    preview.show(*classified_frame())
    client = open_stream(preview)
    read_until(lambda data: b"--frame" in data, client)
    status, headers, body = get(preview, "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"stn_frames_total 1.0\n" in body
    assert b'stn_clients{stream="pictures"} 1.0\n' in body
    client.close()
    until(lambda: b'stn_clients{stream="pictures"} 0.0\n' in get(preview, "/metrics")[2])


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
def test_no_path_leads_to_a_file(serve: Callable[..., Preview], path: str) -> None:
    assert get(serve(), path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", PATHS)
def test_only_get_and_head_are_allowed(serve: Callable[..., Preview], path: str, method: str) -> None:
    status, headers, _ = get(serve(), path, method=method)
    assert status == 405
    assert set(headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_to_head_has_no_body(serve: Callable[..., Preview], path: str) -> None:
    preview = serve()
    preview.show(*classified_frame())
    kinds = []
    for method in ("GET", "HEAD"):
        status, headers, body = get(preview, path, method=method)
        kinds.append((status, headers["content-type"]))
    assert kinds[0] == kinds[1]
    assert body == b""
