"""Cameras that are read, lost and opened again; played by objects that give what a camera would."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import InputError, PreprocessSpec
from stn_runtime.images.writing import write_image
from stn_runtime.sources.cameras import Camera, LiveCameras
from stn_runtime.sources.captures import CameraOptions, Capture, Grabbed
from stn_runtime.sources.frame import Frame, Selection
from stn_runtime.sources.opening import open_source

Played = Callable[[int], "NDArray[np.uint8] | bytes | None"]


class FakeCapture:
    """Plays a camera: the i-th reading gives ``play(i)``, and the camera's clock says ``clock(i)``."""

    def __init__(
        self, play: Played, rate: float | None = None, clock: Callable[[int], float | None] = lambda _: None
    ) -> None:
        self._play, self._clock, self.rate = play, clock, rate
        self.reads = 0
        self.released = threading.Event()

    def read(self) -> Grabbed | None:
        index, self.reads = self.reads, self.reads + 1
        data = self._play(index)
        return None if data is None else Grabbed(time.time(), self._clock(index), data)

    def release(self) -> None:
        self.released.set()


def _picture(index: int) -> NDArray[np.uint8]:
    return np.full((4, 6, 3), index % 256, np.uint8)


def _steady(seconds: float, until: int = 10**9) -> Played:
    def play(index: int) -> NDArray[np.uint8] | None:
        time.sleep(seconds)
        return _picture(index) if index < until else None

    return play


def _raise(error: Exception) -> Any:  # noqa: ANN401
    raise error


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a blocked camera waits for; opened at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_runtime.sources.cameras._FIRST_PAUSE", 0.05)
    monkeypatch.setattr("stn_runtime.sources.cameras._OPEN_SECONDS", 0.4)


def _live(
    *captures: FakeCapture,
    stall_seconds: float = 5.0,
    wait: bool = False,
    still_ok: bool = False,
    selection: Selection = Selection(),  # noqa: B008
) -> LiveCameras:
    """A camera that gives one capture each time that it is opened, then refuses."""
    left = list(captures)

    def opened() -> FakeCapture:
        return left.pop(0) if left else _raise(InputError("is gone"))

    options = CameraOptions(stall_seconds=stall_seconds, wait=wait, still_ok=still_ok)
    return LiveCameras([Camera("camera 7", opened)], options, selection)


def _take(source: LiveCameras, count: int) -> list[Frame]:
    frames = list(islice(iter(source), count))
    source.close()
    return frames


def _events(frames: list[Frame]) -> list[tuple[str, str | None]]:
    return [(frame.event, frame.error) for frame in frames if frame.event is not None]


# --- frames


def test_a_camera_gives_frames_with_index_and_clock_time() -> None:
    source, before = _live(FakeCapture(_steady(0.01), rate=30.0)), time.time()
    (frame,) = _take(source, 1)
    assert (source.live, source.total) == (True, None)
    assert (frame.source, frame.error, frame.event, frame.root, frame.rate) == ("camera 7", None, None, None, 30.0)
    assert frame.time is not None
    assert abs(frame.time - before) < 2
    assert frame.image is not None
    assert frame.image[0, 0, 0] == frame.index


def test_frames_of_a_camera_are_rgb() -> None:
    (frame,) = _take(_live(FakeCapture(lambda _: np.full((4, 6, 3), (3, 2, 1), np.uint8))), 1)
    assert frame.image is not None
    np.testing.assert_array_equal(frame.image[0, 0], (1, 2, 3))


def test_a_grey_camera_stays_grey() -> None:
    (frame,) = _take(_live(FakeCapture(lambda _: np.full((4, 6), 9, np.uint8))), 1)
    assert frame.image is not None
    assert frame.image.shape == (4, 6)


def _jpeg(level: int, height: int = 48, width: int = 64) -> bytes:
    done, data = cv2.imencode(".jpg", np.full((height, width, 3), (0, 0, level), np.uint8))
    assert done
    return data.tobytes()


def test_jpegs_are_decoded_when_they_are_taken_and_reduced_as_wanted() -> None:
    source = _live(FakeCapture(lambda index: (time.sleep(0.01), _jpeg(200 + index % 50, 480, 640))[1]))
    source.reduce_for(PreprocessSpec(56, 56, 1))
    (frame,) = _take(source, 1)
    assert frame.image is not None
    assert (frame.image.shape, frame.size) == ((120, 160), (480, 640))
    assert abs(int(frame.image[0, 0]) - 0.299 * (200 + frame.index % 50)) < 3
    assert frame.decode_ms is not None


def test_a_jpeg_that_cannot_be_decoded_is_no_frame() -> None:
    broken = b"\xff\xd8\xff\xd9"
    frames = _take(_live(FakeCapture(lambda index: (time.sleep(0.02), _jpeg(index) if index % 2 else broken)[1])), 3)
    assert all(frame.image is not None and frame.index % 2 for frame in frames)


def test_a_camera_whose_jpegs_can_never_be_decoded_is_lost_and_not_back_before_one_can() -> None:
    def broken(index: int) -> bytes:
        time.sleep(0.01)
        return b"\xff\xd8" + index.to_bytes(2, "big") + b"\xff\xd9"

    good = FakeCapture(lambda index: (time.sleep(0.01), _jpeg(index))[1])
    frames = _take(_live(FakeCapture(broken), FakeCapture(broken), good, stall_seconds=0.2), 4)
    told = "camera 7: sent pictures that cannot be decoded for 0.2 s"
    assert _events(frames) == [("source_lost", told), ("source_back", None)]
    assert [frame.event for frame in frames] == ["source_lost", "source_back", None, None]
    assert frames[1].index == frames[2].index


def test_a_torn_jpeg_costs_no_turn_where_few_are_wanted() -> None:
    def play(index: int) -> bytes:
        time.sleep(0.01)
        return _jpeg(index) if index % 10 else b"\xff\xd8\xff\xd9"

    began = time.monotonic()
    frames = _take(_live(FakeCapture(play), stall_seconds=0.2, selection=Selection(max_fps=2)), 2)
    assert [frame.event for frame in frames] == [None, None]
    assert time.monotonic() - began < 1.0


def test_a_loss_is_seen_while_a_frame_waits_for_its_turn() -> None:
    capture = FakeCapture(_steady(0.01, until=20))
    began = time.monotonic()
    frames = _take(_live(capture, FakeCapture(_steady(0.01)), selection=Selection(max_fps=0.2)), 4)
    assert [frame.event for frame in frames] == [None, "source_lost", "source_back", None]
    assert time.monotonic() - began < 2


def test_a_slow_consumer_gets_the_newest_frame_and_the_rest_is_dropped() -> None:
    capture = FakeCapture(_steady(0.005))
    source = _live(capture)
    seen = []
    for frame in source:
        lag = capture.reads - 1 - frame.index
        assert lag <= 10  # a queue would be 40 behind in the end
        seen.append(frame.index)
        if len(seen) == 5:
            source.close()
        time.sleep(0.06)
    assert seen == sorted(set(seen))
    assert seen[-1] - seen[0] > 2 * len(seen)


def test_a_quick_consumer_never_gets_a_frame_twice() -> None:
    seen = [frame.index for frame in _take(_live(FakeCapture(_steady(0.02))), 5)]
    assert seen == sorted(set(seen))


def test_a_change_of_size_between_frames_is_passed_on() -> None:
    capture = FakeCapture(lambda index: (time.sleep(0.01), np.zeros((4 + index, 6, 3), np.uint8))[1])
    assert len({frame.image.shape[0] for frame in _take(_live(capture), 3) if frame.image is not None}) == 3


def test_of_a_stride_only_those_frames_are_seen() -> None:
    frames = _take(_live(FakeCapture(_steady(0.005)), selection=Selection(stride=4)), 4)
    assert all(frame.index % 4 == 0 for frame in frames)


def test_frames_come_no_faster_than_wanted() -> None:
    began = time.monotonic()
    _take(_live(FakeCapture(_steady(0.002)), selection=Selection(max_fps=20)), 5)
    assert time.monotonic() - began > 4 / 20 * 0.95


def test_two_cameras_take_turns() -> None:
    cameras = [Camera(name, lambda: FakeCapture(_steady(0.001))) for name in ("left", "right")]
    source = LiveCameras(cameras)
    frames = []
    for frame in source:
        frames.append(frame.source)
        time.sleep(0.01)  # both have a new one now
        if len(frames) == 10:
            source.close()
    assert frames.count("left") == frames.count("right") == 5


# --- losses


def test_a_camera_that_closes_is_lost_and_opened_again() -> None:
    first, second = FakeCapture(_steady(0.02, until=3)), FakeCapture(_steady(0.02))
    source = _live(first, second)
    frames = _take(source, 8)
    assert _events(frames) == [("source_lost", "camera 7: stopped sending frames"), ("source_back", None)]
    lost = next(at for at, frame in enumerate(frames) if frame.event == "source_lost")
    assert frames[lost - 1].index == 2  # the last picture is not lost
    assert frames[lost + 1].event == "source_back"
    indices = [frame.index for frame in frames if frame.event is None]
    assert indices == sorted(set(indices))  # and numbers go on
    assert first.released.wait(2)
    assert second.released.wait(2)


def test_a_camera_that_sends_nothing_is_lost_and_let_go_when_it_wakes(gate: threading.Event) -> None:
    def play(index: int) -> NDArray[np.uint8]:
        if index == 2:
            gate.wait(20)
        time.sleep(0.01)
        return _picture(index)

    blocked = FakeCapture(play)
    frames = _take(_live(blocked, FakeCapture(_steady(0.01)), stall_seconds=0.3), 5)
    assert _events(frames) == [("source_lost", "camera 7: sent nothing for 0.3 s"), ("source_back", None)]
    gate.set()
    assert blocked.released.wait(2)


def test_a_picture_that_repeats_is_shown_once_and_then_the_camera_is_lost() -> None:
    frozen = FakeCapture(lambda index: (time.sleep(0.01), _picture(min(index, 3)))[1])
    frames = _take(_live(frozen, FakeCapture(_steady(0.01)), stall_seconds=0.3), 8)
    assert _events(frames) == [("source_lost", "camera 7: repeated one picture for 0.3 s"), ("source_back", None)]
    lost = next(at for at, frame in enumerate(frames) if frame.event == "source_lost")
    assert frames[lost - 1].index == 3
    assert lost == 4


def test_a_jpeg_that_repeats_is_a_repeated_picture_too() -> None:
    frozen = FakeCapture(lambda index: (time.sleep(0.01), _jpeg(50))[1])
    frames = _take(_live(frozen, stall_seconds=0.2), 2)
    assert [frame.event for frame in frames] == [None, "source_lost"]


def test_a_still_picture_behind_a_running_clock_is_no_loss() -> None:
    still = FakeCapture(lambda index: (time.sleep(0.01), _picture(3))[1], clock=lambda index: (1 + index) / 30)
    frames = _take(_live(still, stall_seconds=0.1), 40)
    assert _events(frames) == []


def test_a_still_picture_without_a_clock_is_no_loss_where_it_may_be_still() -> None:
    still = FakeCapture(lambda index: (time.sleep(0.01), _picture(3))[1])
    frames = _take(_live(still, stall_seconds=0.1, still_ok=True), 40)
    assert _events(frames) == []


def test_a_still_camera_with_a_clock_comes_back_after_a_loss() -> None:
    def ends(index: int) -> object:
        time.sleep(0.01)
        return _picture(3) if index < 5 else None

    still = FakeCapture(lambda index: (time.sleep(0.01), _picture(3))[1], clock=lambda index: 9 + index / 30)
    frames = _take(_live(FakeCapture(ends, clock=lambda index: (1 + index) / 30), still), 12)
    assert _events(frames) == [("source_lost", "camera 7: stopped sending frames"), ("source_back", None)]


def test_a_clock_that_stands_is_a_loss() -> None:
    standing = FakeCapture(_steady(0.01), clock=lambda index: min(index, 3) / 30)
    frames = _take(_live(standing, FakeCapture(_steady(0.01)), stall_seconds=0.3), 8)
    told = "camera 7: sent pictures with one timestamp for 0.3 s"
    assert _events(frames) == [("source_lost", told), ("source_back", None)]


def test_a_clock_that_never_ran_is_no_clock() -> None:
    frames = _take(_live(FakeCapture(_steady(0.02), clock=lambda _: 5.0), stall_seconds=0.1), 20)
    assert _events(frames) == []


def test_an_error_while_a_camera_is_read_is_told_at_once_and_the_camera_let_go() -> None:
    capture = FakeCapture(lambda index: _raise(cv2.error("corrupt")) if index == 3 else _steady(0.01)(index))
    began = time.monotonic()
    frames = _take(_live(capture, stall_seconds=5.0), 4)
    assert _events(frames) == [("source_lost", "camera 7: stopped sending frames (corrupt)")]
    assert capture.released.wait(0.2)
    assert time.monotonic() - began < 0.8


def test_a_camera_that_stays_away_is_told_once_and_tried_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_runtime.sources.cameras._LONGEST_PAUSE", 0.4)
    tries: list[float] = []

    def opened() -> FakeCapture:
        tries.append(time.monotonic())
        return FakeCapture(_steady(0.01, until=2 if len(tries) == 1 else 10**9)) if len(tries) in (1, 7) else _refuse()

    frames = _take(LiveCameras([Camera("camera 7", opened)]), 5)
    assert [frame.event for frame in frames][-3:-1] == ["source_lost", "source_back"]
    pauses = np.diff(tries[1:])
    np.testing.assert_allclose(pauses, [0.1, 0.2, 0.4, 0.4, 0.4], atol=0.08)


def _refuse() -> FakeCapture:
    raise InputError("is gone")


def test_a_camera_that_hangs_each_time_does_not_fill_the_machine_with_threads(
    gate: threading.Event, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_one() -> FakeCapture:
        opened.append(FakeCapture(lambda index: (gate.wait(20) if index else None, _picture(index))[1]))
        return opened[-1]

    signs: list[float] = []
    monkeypatch.setattr("stn_runtime.sources.cameras._STUCK_SECONDS", 0.3)
    monkeypatch.setattr("stn_runtime.sources.cameras.notify", lambda: signs.append(time.monotonic()))
    source = LiveCameras([Camera("camera 7", open_one)], CameraOptions(stall_seconds=0.05))
    threading.Timer(1.5, source.close).start()
    list(source)
    assert len(opened) == 3
    assert caplog.messages == ["camera 7: its driver hangs; connect it anew, or start the program again"]
    assert time.monotonic() - signs[-1] > 0.3  # a service manager is to start the program again


def test_several_losses_leave_no_threads_behind() -> None:
    before = threading.active_count()
    frames = _take(_live(*(FakeCapture(_steady(0.005, until=2)) for _ in range(6)), FakeCapture(_steady(0.01))), 24)
    assert [event for event, _ in _events(frames)] == ["source_lost", "source_back"] * 6
    assert threading.active_count() <= before + 1


# --- opening and closing


def test_a_camera_that_blocks_when_opened_is_one_sentence(gate: threading.Event) -> None:
    capture = FakeCapture(_steady(0.01))
    camera = Camera("camera 7", lambda: (gate.wait(20), capture)[1])
    with pytest.raises(InputError, match=r"^camera 7: does not answer; is it connected, switched on"):
        LiveCameras([camera], CameraOptions(stall_seconds=0.2))
    gate.set()
    assert capture.released.wait(2), "a camera that opens too late must be let go"


def test_a_camera_that_does_not_open_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^camera 7: is gone$"):
        _live()


def test_an_error_when_a_camera_is_opened_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match=r"^camera 7: cannot be opened"):
        LiveCameras([Camera("camera 7", lambda: _raise(cv2.error("bad argument")))])
    assert time.monotonic() - began < 0.3


def test_a_camera_that_may_come_later_is_waited_for() -> None:
    tries: list[int] = []

    def opened() -> FakeCapture:
        tries.append(1)
        return FakeCapture(_steady(0.01)) if len(tries) == 3 else _refuse()

    frames = _take(LiveCameras([Camera("camera 7", opened)], CameraOptions(wait=True)), 3)
    assert _events(frames) == [("source_lost", "camera 7: is gone"), ("source_back", None)]
    assert frames[2].index == 0


def test_when_one_of_two_cameras_does_not_open_the_other_is_let_go() -> None:
    good = FakeCapture(_steady(0.01))
    with pytest.raises(InputError, match=r"^right: is gone$"):
        LiveCameras([Camera("left", lambda: good), Camera("right", _refuse)])
    assert good.released.wait(2)


def test_closing_ends_a_camera_that_is_blocked(gate: threading.Event) -> None:
    source = _live(FakeCapture(lambda index: (gate.wait(20) if index else None, _picture(index))[1]), stall_seconds=20)
    frames = iter(source)
    next(frames)
    threading.Timer(0.1, source.close).start()
    began = time.monotonic()
    assert list(frames) == []
    assert time.monotonic() - began < 2


def test_closing_lets_the_camera_go() -> None:
    capture = FakeCapture(_steady(0.01))
    source = _live(capture)
    next(iter(source))
    source.close()
    source.close()
    assert capture.released.wait(2)
    assert list(source) == []


def test_when_the_frames_have_ended_the_camera_has_been_let_go() -> None:
    capture = FakeCapture(_steady(0.2))
    source = _live(capture)
    for _ in source:
        source.close()
    assert capture.released.is_set()


def test_leaving_the_loop_lets_the_camera_go() -> None:
    capture = FakeCapture(_steady(0.01))
    frames = iter(_live(capture))
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert capture.released.wait(2)


# --- what a user names


def test_a_camera_number_that_does_not_exist_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^camera 97: cannot be opened \(.+\); is it connected, switched on"):
        open_source("97")


def test_a_network_stream_gives_frames(camera: SimpleNamespace) -> None:
    source = open_source(camera.url)
    assert isinstance(source, LiveCameras)
    frames = _take(source, 5)
    assert all(frame.error is None and frame.source == camera.url for frame in frames)
    assert frames[0].image is not None
    assert frames[0].image[0, 0, 0] > 195
    assert frames[0].image[0, 0, 1] < 10


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x.mjpg", "rtsp://127.0.0.1:9/x"])
def test_an_address_where_nothing_answers_is_one_sentence(address: str) -> None:
    with pytest.raises(InputError, match=f"^{address}: cannot be opened"):
        open_source(address)


def test_the_reason_of_a_driver_stands_in_brackets() -> None:
    def refuse() -> Capture:
        raise RuntimeError("Pipeline handler in use by\n another process (pid 812)")

    told = r"^picam: cannot be opened \(Pipeline handler in use by another process \(pid 812\)\); is it connected"
    with pytest.raises(InputError, match=told):
        LiveCameras([Camera("picam", refuse)], CameraOptions(stall_seconds=1.0))


def test_a_password_that_must_be_encoded_is_hidden_and_said_to_be() -> None:
    with pytest.raises(InputError) as caught:
        open_source("rtsp://admin:p@ss#w?x@127.0.0.1:9/1", CameraOptions(stall_seconds=1.0))
    assert str(caught.value).startswith("rtsp://127.0.0.1:9/1: cannot be opened as a stream")
    assert str(caught.value).endswith(" (within a password, write '@', '/', '?' and '#' as %40, %2F, %3F and %23)")
    assert not [word for word in ("p@ss", "ss#", "admin") if word in str(caught.value)]


def test_a_password_is_not_shown() -> None:
    with pytest.raises(InputError, match=r"^http://127\.0\.0\.1:9/x: cannot be opened"):
        open_source("http://user:secret@127.0.0.1:9/x")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:p@ss@host:554/s", "rtsp://host:554/s"),
        ("rtsp://user:p/w@host/s", "rtsp://host/s"),
        ("rtsp://user@host/s", "rtsp://host/s"),
        ("rtsp://cam.lan:554/user@x", "rtsp://cam.lan:554/user@x"),
        ("rtsp://[::1]:554/user@cam", "rtsp://[::1]:554/user@cam"),
        ("http://host/v?user=a&pwd=b&channel=1", "http://host/v?user=***&pwd=***&channel=1"),
        ("http://host/v?channel=1&Access_Token=b#x", "http://host/v?channel=1&Access_Token=***#x"),
        ("http://host/v?channel=2", "http://host/v?channel=2"),
        (
            "http://host/v?loginuse=admin&loginpas=b&resolution=32",
            "http://host/v?loginuse=***&loginpas=***&resolution=32",
        ),
        (
            "rtsp://host/user=admin_password=b_channel=1_stream=0",
            "rtsp://host/user=***_password=***_channel=1_stream=0",
        ),
        ("http://host/v?pw=a_b;x=1#token=c", "http://host/v?pw=***;x=1#token=***"),
        ("RTSP://user:word@host/s", "RTSP://host/s"),
    ],
)
def test_no_secret_of_an_address_is_shown(address: str, shown: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source([address, address])
    assert str(caught.value) == f"{shown}: is named twice; name it once"


def test_a_back_end_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"^--backend nosuch: this OpenCV has .*ffmpeg"):
        open_source("0", CameraOptions(backend="nosuch"))


# --- cameras with names


def test_a_camera_bears_the_name_that_it_is_given(camera: SimpleNamespace) -> None:
    source = open_source([f"front={camera.url}"])
    assert {frame.source for frame in _take(source, 3)} == {"front"}


def test_the_name_of_a_camera_stands_before_what_is_wrong_with_it() -> None:
    with pytest.raises(InputError, match=r"^yard-2: cannot be opened \(.+\)"):
        open_source("yard-2=http://me:secret@127.0.0.1:9/x")


@pytest.mark.parametrize(
    "names",
    [
        ["a=http://127.0.0.1:9/x", "a=http://127.0.0.1:9/y"],
        ["a=http://127.0.0.1:9/x", "b=http://127.0.0.1:9/x"],
        ["a=http://127.0.0.1:9/x", "http://127.0.0.1:9/x"],
    ],
)
def test_names_and_cameras_are_named_once(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"^(a|http://127.0.0.1:9/x): is named twice; name it once$"):
        open_source(names)


def test_a_file_with_an_equals_sign_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a=0", "a=b.png"):
        write_image(tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8))
        (tmp_path / "x.png").rename(tmp_path / name)
        assert [frame.source for frame in open_source(name)] == [name]
