"""How cameras and streams are opened; OpenCV and picamera2 are played."""

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import InputError
from stn_runtime.sources import captures
from stn_runtime.sources.captures import CameraOptions, Grabbed, open_capture
from stn_runtime.sources.mjpeg import NotMjpegError

FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
NAMES = {
    cv2.CAP_PROP_FOURCC: "fourcc",
    cv2.CAP_PROP_FRAME_WIDTH: "width",
    cv2.CAP_PROP_FRAME_HEIGHT: "height",
    cv2.CAP_PROP_FPS: "rate",
    cv2.CAP_PROP_POS_MSEC: "clock",
}


class FakeCapture:
    """Has cv2.VideoCapture's methods; takes what it is asked for, up to what it has."""

    def __init__(self, **has: float) -> None:
        self.values = {"width": 640.0, "height": 480.0, "rate": 30.0, "clock": 0.0} | has
        self.fixed = set(has)
        self.asked: list[tuple[str, float]] = []
        self.opened: tuple[Any, ...] = ()
        self.options: str | None = None
        self.is_open, self.grabs, self.retrieves, self.released = True, True, True, 0
        self.image = np.full((480, 640, 3), (3, 2, 1), np.uint8)

    def isOpened(self) -> bool:
        return self.is_open

    def set(self, number: int, value: float) -> bool:
        self.asked.append((NAMES[number], value))
        if NAMES[number] not in self.fixed:
            self.values[NAMES[number]] = value
        return NAMES[number] not in self.fixed

    def get(self, number: int) -> float:
        return self.values[NAMES[number]]

    def grab(self) -> bool:
        return self.grabs

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        return (True, self.image) if self.retrieves else (False, None)

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeCapture], FakeCapture]:
    """Let OpenCV open this camera."""

    def played(capture: FakeCapture) -> FakeCapture:
        def opened(*arguments: object) -> FakeCapture:
            capture.opened, capture.options = arguments, os.environ.get(FFMPEG_OPTIONS)
            return capture

        monkeypatch.setattr(cv2, "VideoCapture", opened)
        return capture

    return played


# --- devices


@pytest.mark.skipif(sys.platform != "linux", reason="others leave the choice to OpenCV")
@pytest.mark.parametrize(("name", "source"), [("0", 0), ("12", 12), ("/dev/video2", "/dev/video2")])
def test_a_device_is_opened_by_its_number_or_path(
    play: Callable[[FakeCapture], FakeCapture], name: str, source: int | str
) -> None:
    capture = play(FakeCapture())
    open_capture(name, CameraOptions())
    assert capture.opened == (source, cv2.CAP_V4L2)


def test_the_back_end_that_was_named_is_used(play: Callable[[FakeCapture], FakeCapture]) -> None:
    capture = play(FakeCapture())
    open_capture("v4l2src ! appsink", CameraOptions(backend="gstreamer"))
    assert capture.opened == ("v4l2src ! appsink", cv2.CAP_GSTREAMER)


def test_motion_jpeg_is_asked_for_before_size_and_rate(play: Callable[[FakeCapture], FakeCapture]) -> None:
    capture = play(FakeCapture())
    open_capture("0", CameraOptions(size=(1280, 720), rate=15.0, mjpg=True))
    mjpg = ord("M") | ord("J") << 8 | ord("P") << 16 | ord("G") << 24
    assert capture.asked == [("fourcc", mjpg), ("width", 1280), ("height", 720), ("rate", 15.0)]


def test_a_device_is_asked_for_nothing_that_was_not_wanted(play: Callable[[FakeCapture], FakeCapture]) -> None:
    capture = play(FakeCapture())
    open_capture("0", CameraOptions())
    assert capture.asked == []


@pytest.mark.parametrize(
    ("has", "options"),
    [
        ({"width": 640}, CameraOptions(size=(1280, 720))),
        ({"height": 480}, CameraOptions(size=(1280, 720))),
        ({"rate": 7.5}, CameraOptions(rate=30)),
    ],
)
def test_what_a_device_gives_instead_is_told(
    play: Callable[[FakeCapture], FakeCapture],
    has: dict[str, float],
    options: CameraOptions,
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = play(FakeCapture(**has)).values
    open_capture("3", options)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        f"camera 3: gives {values['width']:g} x {values['height']:g} at {values['rate']:g} frames a second "
        "instead of what was asked for; 'stn doctor' lists what it can\n"
    )


@pytest.mark.parametrize("rate", [30.0, 29.97, 30.4])
def test_a_device_that_gives_what_was_asked_for_is_no_news(
    play: Callable[[FakeCapture], FakeCapture], rate: float, capsys: pytest.CaptureFixture[str]
) -> None:
    play(FakeCapture(rate=rate))
    open_capture("0", CameraOptions(size=(1280, 720), rate=30))
    open_capture("0", CameraOptions())
    assert capsys.readouterr() == ("", "")


def test_a_device_that_does_not_open_is_one_sentence(play: Callable[[FakeCapture], FakeCapture]) -> None:
    play(FakeCapture()).is_open = False
    with pytest.raises(InputError, match=r"^cannot be opened \(/dev/video97: No such file or directory\); is it"):
        open_capture("97", CameraOptions())


@pytest.mark.skipif(sys.platform != "linux", reason="devices are files on Linux")
@pytest.mark.parametrize(
    ("allowed", "holders", "told"),
    [
        (False, [], "this user may not: sudo usermod -aG video $USER, then log in again"),
        (True, ["cheese (process 7)", "obs"], "it is in use by cheese (process 7), obs"),
        (True, [], "is it connected, switched on, and not in use by another program? 'stn doctor' lists what is here"),
    ],
)
def test_a_device_that_is_there_and_does_not_open_says_why(
    play: Callable[[FakeCapture], FakeCapture],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: bool,
    holders: list[str],
    told: str,
) -> None:
    (tmp_path / "video0").touch()
    monkeypatch.setattr(os, "access", lambda *_: allowed)
    monkeypatch.setattr("stn_runtime.sources.v4l2.holders", lambda _: holders)
    play(FakeCapture()).is_open = False
    cause = "OpenCV says no more; --verbose shows its log"  # the file itself can be opened
    with pytest.raises(InputError, match=f"^cannot be opened \\({cause}\\); {re.escape(told)}$"):
        open_capture(str(tmp_path / "video0"), CameraOptions())


@pytest.mark.parametrize(("rate", "says"), [(30.0, 30.0), (0.0, None), (-1.0, None), (1e6, None), (float("nan"), None)])
def test_a_rate_that_cannot_be_is_none(
    play: Callable[[FakeCapture], FakeCapture], rate: float, says: float | None
) -> None:
    play(FakeCapture(rate=rate))
    assert open_capture("0", CameraOptions()).rate == says


@pytest.mark.parametrize(("milliseconds", "clock"), [(0.0, None), (-1.0, None), (1500.0, 1.5)])
def test_a_picture_has_its_moment_and_the_clock_of_its_camera(
    play: Callable[[FakeCapture], FakeCapture], milliseconds: float, clock: float | None
) -> None:
    played = play(FakeCapture(clock=milliseconds))
    before = time.time()
    grabbed = open_capture("0", CameraOptions()).read()
    assert grabbed is not None
    assert before <= grabbed.moment <= time.time()
    assert grabbed.clock == clock
    np.testing.assert_array_equal(grabbed.data, played.image)


@pytest.mark.parametrize("nothing", [(False, None), (True, None)])
def test_a_frame_that_cannot_be_decoded_is_passed_over(
    play: Callable[[FakeCapture], FakeCapture], monkeypatch: pytest.MonkeyPatch, nothing: tuple[bool, None]
) -> None:
    played = play(FakeCapture())
    capture = open_capture("0", CameraOptions())
    answers = iter([nothing, nothing, (True, played.image)])
    monkeypatch.setattr(played, "retrieve", lambda: next(answers))
    grabbed = capture.read()
    assert grabbed is not None
    np.testing.assert_array_equal(grabbed.data, played.image)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((4, 6), np.uint16), "gives 1 x uint16 a pixel; only grey and colour of 8 bits are read"),
        (np.zeros((4, 6, 2), np.uint8), "gives 2 x uint8 a pixel; only grey and colour of 8 bits are read"),
    ],
)
def test_pixels_of_another_kind_are_refused_and_not_bent(
    play: Callable[[FakeCapture], FakeCapture], image: NDArray[Any], told: str
) -> None:
    play(FakeCapture()).image = image
    with pytest.raises(InputError, match=f"^{told}$"):
        open_capture("0", CameraOptions()).read()


def test_one_channel_is_grey(play: Callable[[FakeCapture], FakeCapture]) -> None:
    play(FakeCapture()).image = np.zeros((4, 6, 1), np.uint8)
    grabbed = open_capture("0", CameraOptions()).read()
    assert grabbed is not None
    assert isinstance(grabbed.data, np.ndarray)
    assert grabbed.data.shape == (4, 6)


@pytest.mark.parametrize("fails", ["grabs", "retrieves"])
def test_a_device_that_stops_gives_none_and_is_let_go(play: Callable[[FakeCapture], FakeCapture], fails: str) -> None:
    played = play(FakeCapture())
    capture = open_capture("0", CameraOptions())
    setattr(played, fails, False)
    assert capture.read() is None
    capture.release()
    assert played.released == 1


# --- streams


ADDRESS = "rtsp://user:word@camera/1"


def test_a_stream_is_opened_with_ffmpeg_and_time_outs(play: Callable[[FakeCapture], FakeCapture]) -> None:
    capture = play(FakeCapture())
    open_capture(ADDRESS, CameraOptions(stall_seconds=3.5))
    address, backend, parameters = capture.opened
    assert (address, backend) == (ADDRESS, cv2.CAP_FFMPEG)
    asked = dict(zip(parameters[::2], parameters[1::2], strict=True))
    assert asked == {cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC: 3500}


def test_a_long_patience_holds_for_opening_too(play: Callable[[FakeCapture], FakeCapture]) -> None:
    capture = play(FakeCapture())
    open_capture(ADDRESS, CameraOptions(stall_seconds=60))
    assert capture.opened[2][1] == 60_000


def test_ffmpeg_is_told_what_streams_need_while_one_is_opened_and_no_longer(
    play: Callable[[FakeCapture], FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FFMPEG_OPTIONS, raising=False)
    capture = play(FakeCapture())
    open_capture(ADDRESS, CameraOptions())
    assert capture.options is not None
    assert "rtsp_transport;tcp" in capture.options.split("|")
    assert FFMPEG_OPTIONS not in os.environ


def test_what_the_user_tells_ffmpeg_goes_first(
    play: Callable[[FakeCapture], FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FFMPEG_OPTIONS, "rtsp_transport;udp")
    capture = play(FakeCapture())
    open_capture(ADDRESS, CameraOptions())
    assert capture.options == os.environ[FFMPEG_OPTIONS] == "rtsp_transport;udp"


def test_ffmpeg_is_told_nothing_for_a_device(
    play: Callable[[FakeCapture], FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FFMPEG_OPTIONS, raising=False)
    capture = play(FakeCapture())
    open_capture("0", CameraOptions())
    assert capture.options is None


def test_streams_are_opened_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FFMPEG_OPTIONS, raising=False)
    both, told = threading.Barrier(2), []

    def opened(*_: object) -> FakeCapture:
        both.wait(5)  # breaks if one waits until the other is open
        told.append(os.environ.get(FFMPEG_OPTIONS))
        return FakeCapture()

    monkeypatch.setattr(cv2, "VideoCapture", opened)
    with ThreadPoolExecutor(2) as pool:
        captures = list(pool.map(lambda _: open_capture(ADDRESS, CameraOptions()), range(2)))
    assert all(capture.read() is not None for capture in captures)
    assert None not in told
    assert FFMPEG_OPTIONS not in os.environ


def test_a_stream_that_does_not_open_is_one_sentence(
    play: Callable[[FakeCapture], FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FFMPEG_OPTIONS, raising=False)
    play(FakeCapture()).is_open = False
    with pytest.raises(InputError, match=r"^cannot be opened as a stream \(.+\); is the address right"):
        open_capture(ADDRESS, CameraOptions())
    assert FFMPEG_OPTIONS not in os.environ


@pytest.mark.parametrize(
    ("login", "answer", "cause"),
    [
        ("", b"RTSP/1.0 401 Unauthorized\r\n\r\n", "it wants rtsp://USER:PASSWORD@..."),
        ("me:no@", b"RTSP/1.0 401 Unauthorized\r\n\r\n", "user or password is wrong"),
        ("", b"RTSP/1.0 404 Stream Not Found\r\n\r\n", "it answers '404 Stream Not Found'"),
        ("", b"RTSP/1.0 200 OK\r\n\r\n", "it sends no video that FFmpeg knows; --verbose shows FFmpeg's log"),
        ("", b"\x1b[31mhello", "it does not answer as an RTSP server"),
        ("", b"", "it does not answer as an RTSP server"),
    ],
)
def test_what_an_rtsp_server_answers_stands_in_brackets(
    play: Callable[[FakeCapture], FakeCapture], login: str, answer: bytes, cause: str
) -> None:
    play(FakeCapture()).is_open = False
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:

        def serve() -> bytes:
            connection, _ = server.accept()
            with connection:
                request = connection.recv(4096)
                connection.sendall(answer)
            return request

        request = pool.submit(serve)
        address = f"rtsp://{login}127.0.0.1:{server.getsockname()[1]}/1"
        with pytest.raises(InputError, match=rf"^cannot be opened as a stream \({re.escape(cause)}\); is the address"):
            open_capture(address, CameraOptions())
        assert request.result(10).startswith(b"DESCRIBE " + address.replace(login, "").encode() + b" RTSP/1.0\r\n")


def test_that_nobody_listens_stands_in_brackets(play: Callable[[FakeCapture], FakeCapture]) -> None:
    play(FakeCapture()).is_open = False
    with pytest.raises(InputError, match=r"^cannot be opened as a stream \(Connection refused\); is the address"):
        open_capture("rtsp://127.0.0.1:9/1", CameraOptions())


def test_the_address_of_a_single_picture_is_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(*_: object) -> None:
        raise NotMjpegError("image/jpeg")

    monkeypatch.setattr(captures, "MjpegStream", answered)
    with pytest.raises(InputError, match=r"^is the address of a single picture; give that of the camera's stream$"):
        open_capture("HTTP://camera/snapshot.jpg", CameraOptions())


def test_an_address_that_gives_no_mjpeg_is_opened_as_a_stream(
    play: Callable[[FakeCapture], FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*_: object) -> None:
        raise captures.NotMjpegError("video/mp4")

    monkeypatch.setattr(captures, "MjpegStream", other)
    capture = play(FakeCapture())
    open_capture("http://camera/live.ts", CameraOptions())
    assert capture.opened[:2] == ("http://camera/live.ts", cv2.CAP_FFMPEG)


def test_mjpeg_is_read_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [(7.5, b"jpeg")]
    released = []
    stream = SimpleNamespace(read=lambda: left.pop() if left else None, release=lambda: released.append(1))
    asked = []
    monkeypatch.setattr(captures, "MjpegStream", lambda *arguments: asked.append(arguments) or stream)
    capture = open_capture("https://camera/x", CameraOptions(stall_seconds=3))
    assert asked == [("https://camera/x", 3)]
    grabbed = capture.read()
    assert grabbed is not None
    assert (grabbed.moment, grabbed.clock, grabbed.data) == (7.5, 7.5, b"jpeg")  # a complete part is a sign of life
    assert capture.read() is None
    capture.release()
    assert released == [1]


# --- repeated pictures


def _grabbed(data: Any) -> Grabbed:  # noqa: ANN401
    return Grabbed(0.0, None, data)


def test_pictures_are_the_same_to_the_last_bit_or_not_at_all() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    for place in [(0, 0, 0), (16, 32, 1), (49, 69, 2), (17, 5, 0)]:
        other = noise.copy()
        other[place] ^= 1
        assert not _grabbed(noise).equals(_grabbed(other))
    assert _grabbed(noise).equals(_grabbed(noise.copy()))
    assert not _grabbed(noise).equals(_grabbed(noise[:-1]))
    assert not _grabbed(noise).equals(_grabbed(noise[..., 0]))


def test_jpegs_are_compared_as_bytes_and_never_with_pixels() -> None:
    assert _grabbed(b"abc").equals(_grabbed(b"abc"))
    assert not _grabbed(b"abc").equals(_grabbed(b"abd"))
    pixels = _grabbed(np.frombuffer(b"abc", np.uint8).reshape(1, 3))
    assert not _grabbed(b"abc").equals(pixels)
    assert not pixels.equals(_grabbed(b"abc"))


# --- the camera on the ribbon cable


class FakePicamera2:
    """Plays picamera2: pictures are BGR bytes of a format that it calls RGB888."""

    made: "list[FakePicamera2]"
    fails_at: str | None

    def __init__(self, number: int) -> None:
        if self.fails_at == "open":
            raise IndexError("list index out of range")
        self.number, self.done, self.released = number, [], 0  # type: ignore[var-annotated]
        self.made.append(self)

    def create_video_configuration(self, **configuration: object) -> dict[str, object]:
        return configuration

    def configure(self, configuration: dict[str, object]) -> None:
        self.configuration = configuration

    def start(self) -> None:
        if self.fails_at == "start":
            raise RuntimeError("Failed to acquire camera: Device or resource busy")
        self.done.append("start")

    def stop(self) -> None:
        self.done.append("stop")

    def close(self) -> None:
        self.done.append("close")

    def cancel_all_and_flush(self) -> None:
        self.done.append("cancel")

    def capture_request(self, wait: float) -> Any:  # noqa: ANN401
        if self.fails_at == "capture":
            raise TimeoutError(f"nothing for {wait:g} s")

        def let_go() -> None:
            self.released += 1

        def array(name: str) -> NDArray[np.uint8]:
            assert name == "main"
            return np.full((4, 6, 3), (3, 2, 1), np.uint8)

        metadata = {} if self.fails_at == "clock" else {"SensorTimestamp": 2_500_000_000}
        return SimpleNamespace(get_metadata=lambda: metadata, make_array=array, release=let_go)


@pytest.fixture
def picamera(monkeypatch: pytest.MonkeyPatch) -> type[FakePicamera2]:
    FakePicamera2.made, FakePicamera2.fails_at = [], None
    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=FakePicamera2))  # type: ignore[arg-type]
    return FakePicamera2


@pytest.mark.parametrize(("name", "number"), [("picam", 0), ("picam:0", 0), ("picam:1", 1)])
def test_the_ribbon_camera_is_named_by_its_place(picamera: type[FakePicamera2], name: str, number: int) -> None:
    open_capture(name, CameraOptions())
    (camera,) = picamera.made
    assert (camera.number, camera.done) == (number, ["start"])
    assert camera.configuration == {"main": {"format": "RGB888", "size": (1280, 720)}, "controls": {}}


def test_the_ribbon_camera_is_asked_for_size_and_rate(picamera: type[FakePicamera2]) -> None:
    capture = open_capture("picam", CameraOptions(size=(640, 480), rate=12.5))
    (camera,) = picamera.made
    assert camera.configuration == {"main": {"format": "RGB888", "size": (640, 480)}, "controls": {"FrameRate": 12.5}}
    assert capture.rate == 12.5


def test_the_ribbon_camera_gives_bgr_with_the_clock_of_its_sensor(picamera: type[FakePicamera2]) -> None:
    capture = open_capture("picam", CameraOptions())
    before = time.time()
    for count in (1, 2):
        grabbed = capture.read()
        assert grabbed is not None
        assert before <= grabbed.moment <= time.time()
        assert grabbed.clock == 2.5
        np.testing.assert_array_equal(grabbed.data[0, 0], (3, 2, 1))  # type: ignore[index]
        assert picamera.made[0].released == count  # its buffers are few
    capture.release()
    assert picamera.made[0].done == ["start", "cancel", "stop", "close"]


@pytest.mark.parametrize("is_old", [False, True])
def test_a_ribbon_camera_that_stalls_is_let_go(
    picamera: type[FakePicamera2], monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    picamera.fails_at = "capture"
    if is_old:
        monkeypatch.delattr(FakePicamera2, "cancel_all_and_flush")
    capture = open_capture("picam", CameraOptions(stall_seconds=3))
    assert capture.read() is None
    capture.release()
    assert picamera.made[0].done[-2:] == ["stop", "close"]


def test_a_ribbon_camera_without_a_clock_has_none(picamera: type[FakePicamera2]) -> None:
    picamera.fails_at = "clock"
    grabbed = open_capture("picam", CameraOptions()).read()
    assert grabbed is not None
    assert grabbed.clock is None


@pytest.mark.parametrize("fails_at", ["open", "start"])
def test_a_ribbon_camera_that_does_not_open_is_one_sentence_and_is_let_go(
    picamera: type[FakePicamera2], fails_at: str
) -> None:
    picamera.fails_at = fails_at
    with pytest.raises(InputError, match=r"^cannot be opened \(.+\); is its cable seated, and does no other program"):
        open_capture("picam", CameraOptions())
    assert all(camera.done[-1:] == ["close"] for camera in picamera.made)  # or it could never be opened again


def test_without_picamera2_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(
        InputError, match=r"^needs picamera2, which is not installed: sudo apt install python3-picamera2"
    ):
        open_capture("picam", CameraOptions())
