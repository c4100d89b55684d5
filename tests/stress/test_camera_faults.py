"""Cameras that fail: every failure is told, mended without help, and never becomes a picture."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import pytest

from stn_runtime.sources.captures import CameraOptions
from stn_runtime.sources.opening import open_source
from tests.support.process import usage_of
from tests.support.streams import Act, MjpegCamera, Stamp, draw_stamp, read_stamp

PATIENCE = 30.0  # seconds; how long a broken test waits
LOST, BACK = "source_lost", "source_back"


@dataclass(frozen=True)
class Seen:
    """A frame or an event, as it arrived."""

    source: str
    event: str | None
    error: str | None
    stamp: Stamp | None
    size: tuple[int, int] | None


class Viewer(threading.Thread):
    """Looks at a source all the time."""

    def __init__(self, *urls: str) -> None:
        super().__init__(daemon=True)
        self.source = open_source(urls, CameraOptions(stall_seconds=1, wait=True))
        self.seen: list[Seen] = []

    def run(self) -> None:
        for frame in self.source:
            if frame.image is None:
                self.seen.append(Seen(frame.source, frame.event, frame.error, None, None))
            else:
                height, width = frame.image.shape[:2]
                self.seen.append(Seen(frame.source, None, None, read_stamp(frame.image), (height, width)))

    @property
    def frames(self) -> list[Seen]:
        return [entry for entry in self.seen if entry.size]

    @property
    def events(self) -> list[str]:
        return [entry.event for entry in self.seen if entry.event]

    def await_frames(self, count: int) -> None:
        """Wait for so many frames more."""
        wanted = len(self.frames) + count
        wait_for(lambda: len(self.frames) >= wanted)

    def await_events(self, *events: str) -> None:
        """Wait until these are all events so far."""
        wait_for(lambda: self.events == list(events))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    with MjpegCamera() as camera:
        yield camera


@contextmanager
def viewing(*cameras: MjpegCamera, may_repeat: bool = False) -> Iterator[Viewer]:
    """Start a viewer, wait for its first frames, and check at the end that it saw pictures of the cameras alone."""
    viewer = Viewer(*(camera.url for camera in cameras))
    viewer.start()
    try:
        viewer.await_frames(5 * len(cameras))
        yield viewer
    finally:
        viewer.source.close()
        viewer.join(PATIENCE)
    assert not viewer.is_alive()
    for camera in cameras:
        stamps = [entry.stamp for entry in viewer.frames if entry.source == camera.url]
        numbers = [stamp.number for stamp in stamps if stamp is not None]
        assert len(numbers) == len(stamps)
        assert set(numbers) <= set(camera.sent)
        assert numbers == sorted(numbers if may_repeat else set(numbers))


def assert_back(viewer: Viewer, mended: float) -> None:
    """The viewer has lost its camera once, has it back, and looks at pictures taken after that."""
    viewer.await_events(LOST, BACK)
    viewer.await_frames(5)
    (reason,) = [entry.error for entry in viewer.seen if entry.event == LOST]
    assert reason
    after = viewer.seen[[entry.event for entry in viewer.seen].index(BACK) :]
    assert all(entry.stamp.time >= mended for entry in after if entry.stamp)


def test_a_stamp_outlives_jpeg_and_half_a_stamp_is_none() -> None:
    stamp = Stamp(7, 1.75e9)
    jpeg = cv2.imencode(".jpg", draw_stamp(stamp, 241, 323), [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert read_stamp(image) == stamp
    for level in (0, 128, 255):
        image[120:] = level
        assert read_stamp(image) is None


@pytest.mark.parametrize("act", ["half", "cut", "hang up"])
def test_a_broken_stream_is_lost_and_opened_again(camera: MjpegCamera, act: Act) -> None:
    with viewing(camera) as viewer:
        broken = time.time()
        camera.play(act)
        assert_back(viewer, broken)


def test_a_connection_with_noise_alone_is_given_up_every_time(camera: MjpegCamera) -> None:
    with viewing(camera) as viewer:
        for times in range(1, 6):
            camera.play("chatter")
            viewer.await_events(*[LOST, BACK] * times)
            viewer.await_frames(3)


def test_a_stream_of_a_still_scene_is_alive(camera: MjpegCamera) -> None:
    with viewing(camera, may_repeat=True) as viewer:
        camera.play("repeat")
        for _ in range(10):
            viewer.await_frames(5)
        assert viewer.events == []


def test_a_stream_without_new_pictures_is_lost_until_they_come(camera: MjpegCamera) -> None:
    with viewing(camera) as viewer:
        camera.play("silent")
        viewer.await_events(LOST)
        time.sleep(2)  # in which it is tried again, to no avail
        assert viewer.events == [LOST]
        mended = time.time()
        camera.play("send")
        assert_back(viewer, mended)


@pytest.mark.parametrize("act", ["noise between", "noise inside"])
def test_bytes_that_do_not_belong_there_are_passed_over(camera: MjpegCamera, act: Act) -> None:
    with viewing(camera) as viewer:
        for _ in range(5):
            camera.play(act)
            viewer.await_frames(5)
        assert viewer.events == []


@pytest.mark.parametrize("away", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_camera_that_vanishes_is_lost_once_and_back_on_the_same_port(
    camera: MjpegCamera, monkeypatch: pytest.MonkeyPatch, away: float
) -> None:
    monkeypatch.setattr(f"{__name__}.PATIENCE", PATIENCE + away)  # it is tried ever more rarely
    with viewing(camera) as viewer:
        camera.unplug()
        viewer.await_events(LOST)
        frames = len(viewer.frames)
        time.sleep(away)
        assert (len(viewer.frames), viewer.events) == (frames, [LOST])
        mended = time.time()
        camera.plug_in()
        assert_back(viewer, mended)


def test_the_size_of_pictures_may_change_while_they_are_sent(camera: MjpegCamera) -> None:
    with viewing(camera) as viewer:
        camera.height, camera.width = 480, 640
        wait_for(lambda: viewer.frames[-1].size == (480, 640))


def test_a_camera_may_come_back_with_pictures_of_another_size(camera: MjpegCamera) -> None:
    with viewing(camera) as viewer:
        camera.unplug()
        camera.height, camera.width = 480, 640
        mended = time.time()
        camera.plug_in()
        assert_back(viewer, mended)
        assert viewer.frames[-1].size == (480, 640)


def test_a_camera_that_is_lost_does_not_hold_up_another(camera: MjpegCamera) -> None:
    with MjpegCamera() as other, viewing(camera, other) as viewer:
        camera.unplug()
        viewer.await_events(LOST)
        seen = len(viewer.seen)
        viewer.await_frames(30)
        alone = viewer.seen[seen:]
    assert [entry.source for entry in viewer.seen if entry.event] == [camera.url]
    assert {entry.source for entry in alone} == {other.url}


class Command:
    """``stn run`` on a camera in a process of its own, its records as they come."""

    def __init__(self, url: str, *options: str) -> None:
        command = [sys.executable, "-m", "stn_runtime", "run", url, "--stall-seconds", "1", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.records: list[dict[str, Any]] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.records.append(json.loads(line))

    @property
    def events(self) -> list[str]:
        return [record["event"] for record in self.records if "event" in record]

    @property
    def labelled(self) -> int:
        return sum("label" in record for record in self.records)

    def await_labels(self, count: int) -> None:
        """Wait for so many more records of frames."""
        wanted = self.labelled + count
        self._wait_for(lambda: self.labelled >= wanted)

    def await_events(self, *events: str) -> None:
        """Wait until these are all events so far."""
        self._wait_for(lambda: self.events == list(events))

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        wait_for(lambda: condition() or self.process.poll() is not None)
        assert self.process.poll() is None, self.end()[1]

    def end(self) -> tuple[int, str]:
        """Terminate it as systemd does; return its status and what it said."""
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        self._reading.join(PATIENCE)
        assert self.process.stderr is not None
        return status, self.process.stderr.read()


@contextmanager
def commanding(url: str, *options: str) -> Iterator[Command]:
    command = Command(url, *options)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.wait()


def test_the_command_tells_a_loss_and_a_return_and_goes_on(camera: MjpegCamera) -> None:
    with commanding(camera.url) as command:
        command.await_labels(5)
        camera.unplug()
        command.await_events(LOST)
        mended = time.time()
        camera.plug_in()
        command.await_events(LOST, BACK)
        command.await_labels(5)
        status, said = command.end()
    assert status == 130
    assert "Traceback" not in said
    kinds = [record.get("event", "label") for record in command.records]
    lost, back = kinds.index(LOST), kinds.index(BACK)
    assert kinds == ["label"] * lost + [LOST, BACK] + ["label"] * (len(kinds) - lost - 2)
    assert set(command.records[lost]) == {"source", "frame", "time", "event", "error"}
    assert set(command.records[back]) == {"source", "frame", "time", "event"}
    assert all(record["time"] >= mended for record in command.records[back + 1 :])
    assert all(record["source"] == camera.url for record in command.records)


def test_twenty_losses_leave_no_threads_no_files_and_no_memory_behind(camera: MjpegCamera) -> None:
    used = []
    with commanding(camera.url) as command:
        command.await_labels(30)
        for losses in range(1, 24):
            camera.play("hang up")
            command.await_events(*[LOST, BACK] * losses)
            command.await_labels(3)
            used.append(usage_of(command.process.pid))
        command.end()
    before, after = used[2], used[-1]
    assert after.threads <= before.threads
    assert after.open_files <= before.open_files
    assert after.resident_mb < before.resident_mb + 5


def test_the_command_waits_for_a_camera_that_is_not_there_yet(camera: MjpegCamera) -> None:
    camera.unplug()
    with commanding(camera.url, "--wait") as command:
        time.sleep(2)
        assert command.process.poll() is None
        assert command.labelled == 0
        camera.plug_in()
        command.await_labels(5)
        assert command.events == [LOST, BACK]
        assert command.end()[0] == 130


def test_without_wait_a_camera_that_is_not_there_is_one_sentence(camera: MjpegCamera) -> None:
    camera.unplug()
    with commanding(camera.url) as command:
        assert command.process.wait(PATIENCE) == 2
        said = command.end()[1]
    assert command.records == []
    assert said.count("stn: ") == 1
    assert camera.url in said
    assert "Traceback" not in said


def test_the_command_ends_when_it_is_told_to_while_a_camera_is_lost(camera: MjpegCamera) -> None:
    with commanding(camera.url) as command:
        command.await_labels(5)
        camera.play("silent")
        command.await_events(LOST)
        status, said = command.end()
    assert status == 130
    assert "Traceback" not in said
