"""Folders, globs, videos, cameras and streams; cameras are played by an object with cv2.VideoCapture's methods."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import InputError, PreprocessSpec
from stn_runtime.images import write_image
from stn_runtime.records import Done
from stn_runtime.sources import Frame, ImageFiles, Live, Video, open_source


def _names(source: object, root: Path) -> list[str]:
    assert isinstance(source, ImageFiles)
    return [str(path.relative_to(root)) for path in source.paths]


# --- files


def test_a_folder_is_searched_with_its_subfolders_and_sorted(folder_of_pictures: Path) -> None:
    source = open_source(str(folder_of_pictures))
    assert _names(source, folder_of_pictures) == ["a/b/d.PNG", "a/c.png", "b.png"]
    assert (source.live, source.total, source.rate) == (False, 3, None)


def test_the_frames_of_a_folder_come_in_order_with_their_root(folder_of_pictures: Path) -> None:
    frames = list(open_source(str(folder_of_pictures)))
    assert [int(frame.image.mean()) for frame in frames if frame.image is not None] == [128, 255, 0]
    assert [(frame.index, frame.time, frame.root) for frame in frames] == [(0, None, str(folder_of_pictures))] * 3


def test_files_with_a_record_are_left_out(folder_of_pictures: Path) -> None:
    source = open_source(str(folder_of_pictures))
    assert isinstance(source, ImageFiles)
    source.skip(Done(1, frozenset([str(folder_of_pictures / "a" / "c.png")])))
    assert [Path(frame.source).name for frame in source] == ["d.PNG", "b.png"]
    assert source.total == 2


def test_jpegs_are_reduced_only_when_asked_and_say_their_whole_size(tmp_path: Path) -> None:
    write_image(tmp_path / "x.jpg", np.full((448, 640, 3), 90, np.uint8))
    source = ImageFiles([tmp_path / "x.jpg"])
    [whole] = list(source)
    source.reduce_for(PreprocessSpec(56, 56, 1))
    [reduced] = list(source)
    assert whole.image is not None
    assert reduced.image is not None
    assert (whole.image.shape, reduced.image.shape) == ((448, 640, 3), (112, 160, 3))
    assert (whole.size, reduced.size) == ((448, 640), (448, 640))


def test_a_large_folder_keeps_its_order_while_it_is_read_ahead(tmp_path: Path) -> None:
    sizes = [1000 if index % 7 == 0 else 2 for index in range(60)]  # slow ones between quick ones
    for index, size in enumerate(sizes):
        write_image(tmp_path / f"{index:03}.png", np.full((size, size), index, np.uint8))
    assert [frame.image[0, 0] for frame in open_source(str(tmp_path)) if frame.image is not None] == list(range(60))


def test_a_glob_is_sorted_and_its_root_is_the_common_folder(folder_of_pictures: Path) -> None:
    source = open_source(str(folder_of_pictures / "**" / "*.png"))
    assert _names(source, folder_of_pictures) == ["a/c.png", "b.png"]
    assert isinstance(source, ImageFiles)
    assert source.root == folder_of_pictures


def test_a_relative_glob_finds_files(folder_of_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder_of_pictures)
    assert [frame.source for frame in open_source("*.png")] == ["b.png"]


def test_a_file_with_brackets_in_its_name_is_not_a_pattern(tmp_path: Path) -> None:
    write_image(tmp_path / "photo[1].png", np.full((2, 2), 7, np.uint8))
    assert _names(open_source(str(tmp_path / "photo[1].png")), tmp_path) == ["photo[1].png"]


def test_a_single_file_is_read_whatever_its_ending(tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", np.full((2, 2), 7, np.uint8))
    path = (tmp_path / "photo.png").rename(tmp_path / "photo")
    (frame,) = open_source(str(path))
    assert frame.image is not None
    assert frame.root is None


def test_an_unreadable_picture_is_a_frame_with_an_error(folder_of_pictures: Path) -> None:
    (folder_of_pictures / "a" / "bad.jpg").write_bytes(b"nothing")
    frames = list(open_source(str(folder_of_pictures)))
    assert [frame.error is None for frame in frames] == [True, False, True, True]
    assert frames[1].image is None
    assert frames[1].error == f"{frames[1].source}: cannot be decoded as an image (7 bytes)"


def test_a_folder_without_pictures_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r": has no image files \(.*\.jpg.*\.png"):
        open_source(str(tmp_path))


def test_a_glob_that_matches_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\*\.jpg: the pattern matches no file$"):
        open_source(str(tmp_path / "*.jpg"))


@pytest.mark.parametrize("name", ["gone.jpg", "gone.mp4", "gone", "a\0b"])
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: no such file or folder; a camera is named by its number"):
        open_source(str(tmp_path / name))


def test_a_name_of_any_length_is_one_sentence() -> None:
    with pytest.raises(InputError, match="no such file"):
        open_source("p" * 5000)


def test_an_empty_name_is_not_the_current_folder(folder_of_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder_of_pictures)
    with pytest.raises(InputError, match=r"empty|no such file"):
        open_source("")


def test_a_subfolder_that_cannot_be_listed_is_not_passed_over(
    folder_of_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def scandir(path: Any) -> Any:  # noqa: ANN401
        if str(path) == str(folder_of_pictures / "a"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match="Permission denied"):
        open_source(str(folder_of_pictures))


def test_closing_ends_the_files_promptly(folder_of_pictures: Path) -> None:
    source = ImageFiles([folder_of_pictures / "b.png"] * 1000)
    frames = iter(source)
    next(frames)
    source.close()
    assert len(list(frames)) < 20


# --- videos


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4", "CLIP.AVI"])
def test_a_video_gives_every_frame_in_order(make_video: Callable[..., Path], name: str) -> None:
    path = make_video(name.lower())
    source = open_source(str(path.rename(path.with_name(name))))
    assert isinstance(source, Video)
    assert (source.live, source.total, source.rate) == (False, 12, pytest.approx(10))
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(12))
    assert all(frame.error is None for frame in frames)
    means = [float(frame.image.mean()) for frame in frames if frame.image is not None]
    np.testing.assert_allclose(means, np.arange(12) * 10, atol=4)


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4"])
def test_frames_of_a_video_carry_their_time(make_video: Callable[..., Path], name: str) -> None:
    times = [frame.time for frame in open_source(str(make_video(name)))]
    assert times == pytest.approx([index / 10 for index in range(12)], abs=1e-3)


def test_frames_of_a_video_are_rgb(make_video: Callable[..., Path]) -> None:
    frame = next(iter(open_source(str(make_video(colour=(255, 0, 0))))))
    assert frame.image is not None
    np.testing.assert_allclose(frame.image.mean((0, 1)), (255, 0, 0), atol=6)


def test_a_truncated_video_gives_its_frames_and_then_an_error(tmp_path: Path) -> None:
    path = tmp_path / "torn.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(40):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *frames, last = open_source(str(path))
    assert 5 < len(frames) < 36
    assert all(frame.image is not None for frame in frames)
    assert last.image is None
    assert last.error == f"{path}: ends after {len(frames)} of 40 frames; is it cut off?"


@pytest.mark.parametrize("data", [b"", b"hello", b"\0" * 4096])
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_what_is_no_video_says_so(tmp_path: Path, data: bytes, suffix: str) -> None:
    (tmp_path / f"x{suffix}").write_bytes(data)
    with pytest.raises(InputError, match=rf"x\{suffix}: cannot be opened as a video \(damaged, or"):
        open_source(str(tmp_path / f"x{suffix}"))


def test_a_video_of_which_only_the_head_is_left_is_refused(make_video: Callable[..., Path]) -> None:
    path = make_video("clip.mp4")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match=r"clip\.mp4: cannot be opened as a video"):
        open_source(str(path))


def test_closing_ends_a_video_after_the_frame(make_video: Callable[..., Path]) -> None:
    source = open_source(str(make_video()))
    seen = []
    for frame in source:
        seen.append(frame)
        source.close()
    assert len(seen) == 1


def test_a_video_whose_name_is_not_utf8_does_not_kill_the_process(
    make_video: Callable[..., Path], undecodable: str, spawn: Callable[..., Any]
) -> None:
    path = make_video()
    path = path.rename(path.with_name(f"{undecodable}.avi"))
    code = (
        "import os, sys\nfrom stn_runtime import InputError\nfrom stn_runtime.sources import open_source\n"
        "try: print(len(list(open_source(sys.argv[1]))))\nexcept InputError as error: print(ascii(str(error)))"
    )
    process = spawn(path, code=code)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert b"the name is not UTF-8" in out


# --- cameras


class FakeCapture:
    """Plays a camera: frame i is of grey level i; ``read`` is called with i and returns what VideoCapture would."""

    def __init__(self, read: Callable[[int], tuple[bool, Any]], opened: bool = True, rate: float = 0.0) -> None:
        self._read, self._opened, self._rate = read, opened, rate
        self.reads = 0
        self.released = threading.Event()

    def isOpened(self) -> bool:
        return self._opened

    def get(self, _key: int) -> float:
        return self._rate

    def read(self) -> tuple[bool, Any]:
        self.reads += 1
        return self._read(self.reads - 1)

    def release(self) -> None:
        self.released.set()


def _picture(index: int) -> NDArray[np.uint8]:
    return np.full((4, 6, 3), index % 256, np.uint8)


def _steady(seconds: float, until: int = 10**9) -> Callable[[int], tuple[bool, Any]]:
    def read(index: int) -> tuple[bool, Any]:
        time.sleep(seconds)
        return (True, _picture(index)) if index < until else (False, None)

    return read


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a blocked camera waits for; opened at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


def _live(capture: FakeCapture, stall_seconds: float = 5.0) -> Live:
    return Live("camera 7", lambda: capture, stall_seconds)


def test_a_camera_gives_frames_with_index_and_clock_time() -> None:
    source = _live(FakeCapture(_steady(0.01), rate=30.0))
    before = time.time()
    frame = next(iter(source))
    source.close()
    assert (source.live, source.total, source.rate) == (True, None, 30.0)
    assert (frame.source, frame.error, frame.root) == ("camera 7", None, None)
    assert frame.time is not None
    assert abs(frame.time - before) < 2
    assert frame.image is not None
    assert frame.image[0, 0, 0] == frame.index


@pytest.mark.parametrize("rate", [0.0, -1.0, 90_000.0, float("nan")])
def test_an_absurd_rate_is_no_rate(rate: float) -> None:
    source = _live(FakeCapture(_steady(0.01), rate=rate))
    source.close()
    assert source.rate is None


def test_frames_of_a_camera_are_rgb() -> None:
    source = _live(FakeCapture(lambda _: (True, np.full((4, 6, 3), (3, 2, 1), np.uint8))))
    frame = next(iter(source))
    source.close()
    assert frame.image is not None
    np.testing.assert_array_equal(frame.image[0, 0], (1, 2, 3))


def test_a_grey_camera_stays_grey() -> None:
    source = _live(FakeCapture(lambda _: (True, np.full((4, 6), 9, np.uint8))))
    frame = next(iter(source))
    source.close()
    assert frame.image is not None
    assert frame.image.shape == (4, 6)


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
    source = _live(FakeCapture(_steady(0.02)))
    seen = []
    for frame in source:
        seen.append(frame.index)
        if len(seen) == 5:
            source.close()
    assert seen == sorted(set(seen))


def test_a_change_of_size_between_frames_is_passed_on() -> None:
    source = _live(FakeCapture(lambda index: (time.sleep(0.01) is None, np.zeros((4 + index, 6, 3), np.uint8))))
    frames = iter(source)
    sizes = {next(frames).image.shape[0] for _ in range(3)}  # type: ignore[union-attr]
    source.close()
    assert len(sizes) == 3


def test_an_unplugged_camera_is_an_error_record_and_then_the_end() -> None:
    capture = FakeCapture(_steady(0.01, until=3))
    frames = list(_live(capture))
    assert frames[-1].image is None
    assert frames[-1].error == "camera 7: stopped sending frames"
    assert all(frame.error is None for frame in frames[:-1])
    assert frames[-2].index == 2  # the last picture is not lost
    assert capture.released.wait(2)


def test_a_camera_that_sends_nothing_is_an_error_record(gate: threading.Event) -> None:
    def read(index: int) -> tuple[bool, Any]:
        if index == 2:
            gate.wait(20)
        time.sleep(0.01)
        return True, _picture(index)

    began = time.monotonic()
    frames = list(_live(FakeCapture(read), stall_seconds=0.3))
    assert time.monotonic() - began < 3
    assert frames[-1].error == "camera 7: sent nothing for 0.3 s"
    assert frames[-1].index > frames[-2].index


def test_a_camera_that_blocks_when_opened_is_one_sentence(gate: threading.Event) -> None:
    capture = FakeCapture(_steady(0.01))

    def open_capture() -> FakeCapture:
        gate.wait(20)
        return capture

    with pytest.raises(InputError, match=r"^camera 7: does not answer; is it connected, switched on"):
        Live("camera 7", open_capture, 0.2)
    gate.set()
    assert capture.released.wait(2), "a camera that opens too late must be let go"


def test_a_camera_that_does_not_open_is_one_sentence() -> None:
    capture = FakeCapture(_steady(0.01), opened=False)
    with pytest.raises(InputError, match=r"^camera 7: cannot be opened; is it connected"):
        _live(capture)
    assert capture.released.wait(2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_when_a_camera_is_opened_is_told_at_once() -> None:
    def open_capture() -> FakeCapture:
        raise cv2.error("bad argument")

    began = time.monotonic()
    with pytest.raises(InputError, match=r"^camera 7: cannot be opened"):
        Live("camera 7", open_capture, 1.0)
    assert time.monotonic() - began < 0.8


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_while_a_camera_is_read_is_told_at_once_and_the_camera_let_go() -> None:
    def read(index: int) -> tuple[bool, Any]:
        if index == 3:
            raise cv2.error("corrupt frame")
        time.sleep(0.01)
        return True, _picture(index)

    capture = FakeCapture(read)
    began = time.monotonic()
    frames = list(_live(capture, stall_seconds=1.0))
    assert frames[-1].error is not None
    assert capture.released.wait(0.2)
    assert time.monotonic() - began < 0.8


def test_closing_ends_a_camera_that_is_blocked(gate: threading.Event) -> None:
    def read(index: int) -> tuple[bool, Any]:
        if index:
            gate.wait(20)
        return True, _picture(index)

    source = _live(FakeCapture(read), stall_seconds=20)
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


@pytest.mark.skipif(sys.platform != "linux", reason="asks for a camera that only Linux can be sure to lack")
def test_a_camera_number_that_does_not_exist_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^camera 97: cannot be opened; is it connected, switched on, and not in use"):
        open_source("97")


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="needs a device file")
def test_a_device_that_is_no_camera_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^/dev/null: cannot be opened"):
        open_source("/dev/null")


# --- streams


def test_a_stream_over_http_gives_frames(camera: SimpleNamespace) -> None:
    source = open_source(camera.url)
    seen: list[Frame] = []
    for frame in source:
        seen.append(frame)
        if len(seen) == 5:
            source.close()
    assert all(frame.error is None and frame.source == camera.url for frame in seen)
    assert seen[0].image is not None
    np.testing.assert_allclose(seen[0].image.mean((0, 1)), (255, 0, 0), atol=4)


def test_a_stream_that_ends_is_an_error_record(camera: SimpleNamespace) -> None:
    source = open_source(camera.url)
    frames = iter(source)
    assert next(frames).error is None
    camera.unplug()
    *_, last = frames
    assert last.error == f"{camera.url}: stopped sending frames"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x.mjpg", "rtsp://127.0.0.1:9/x"])
def test_an_address_where_nothing_answers_is_one_sentence(address: str) -> None:
    with pytest.raises(InputError, match=f"^{address}: cannot be opened; is it connected"):
        open_source(address)


def test_a_video_goes_on_behind_the_frames_that_are_done(make_video: Callable[..., Path]) -> None:
    path = str(make_video())
    everything, rest = list(open_source(path)), open_source(path)
    assert isinstance(rest, Video)
    rest.skip(Done(2))
    assert [(frame.index, frame.time) for frame in rest] == [(frame.index, frame.time) for frame in everything[2:]]
    assert len(everything) > 2
