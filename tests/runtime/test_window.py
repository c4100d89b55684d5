"""The window and its keys, on a screen that is played."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import InputError, Prediction
from stn_runtime.frames import Frame
from stn_runtime.manifest import Manifest
from stn_runtime.records import Record
from stn_runtime.window import Window, display_problem

PREDICTION = Prediction("7", 0.9, (), (), np.empty((0, 0, 2), np.float32), None, {}, np.ones(1, np.float32))


def _picture(height: int = 300, width: int = 400, level: int = 128) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def _shown(image: NDArray[np.uint8] | None) -> tuple[Frame, Record]:
    frame = Frame("cam", 0, None, image)
    return frame, Record("cam", 0, None, None if image is None else PREDICTION, "gone" if image is None else None)


@pytest.fixture
def manifest(manifest_of: Callable[..., Manifest]) -> Manifest:
    return manifest_of(1)


def test_an_opencv_without_windows_says_so(monkeypatch: pytest.MonkeyPatch, manifest: Manifest) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    told = "^--show: this OpenCV is built without windows; pip uninstall -y opencv-python-headless && pip install"
    with pytest.raises(InputError, match=told):
        Window(False, False, manifest)


def test_without_a_display_no_window_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert display_problem().startswith("no window can be opened, is there a screen (DISPLAY or WAYLAND_DISPLAY set)?")


class Screen:
    """Plays OpenCV's windows: gives the keys in turn, then none."""

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.shown: list[NDArray[np.uint8]] = []
        self.visible = 1.0
        self.waits = 0

    def wait_key(self, _milliseconds: int) -> int:
        self.waits += 1
        assert self.waits < 100, "the window waits for ever"
        return self.keys.pop(0) if self.keys else -1


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    made = Screen()
    monkeypatch.setattr("stn_runtime.window.display_problem", lambda: "")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, image: made.shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", made.wait_key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: made.visible)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    return made


def test_a_window_shows_bgr_and_goes_on(screen: Screen, manifest: Manifest) -> None:
    window = Window(False, False, manifest)
    assert window.show(*_shown(np.full((300, 400, 3), (255, 0, 0), np.uint8)))
    np.testing.assert_array_equal(screen.shown[0][200, 200], (0, 0, 255))
    window.close()


@pytest.mark.parametrize("key", [ord("q"), 27])
@pytest.mark.parametrize("wait", [True, False])
def test_q_and_escape_end(screen: Screen, key: int, wait: bool, manifest: Manifest) -> None:
    screen.keys = [key]
    assert not Window(wait, False, manifest).show(*_shown(_picture()))


def test_closing_the_window_ends(screen: Screen, manifest: Manifest) -> None:
    screen.visible = 0.0
    assert not Window(True, False, manifest).show(*_shown(_picture()))


def test_pictures_wait_for_a_key(screen: Screen, manifest: Manifest) -> None:
    screen.keys = [-1, -1, -1, ord("n")]
    assert Window(True, False, manifest).show(*_shown(_picture()))
    assert screen.waits == 4


def test_space_pauses_a_video_until_the_next_space(screen: Screen, manifest: Manifest) -> None:
    screen.keys = [ord(" "), -1, -1, ord(" ")]
    assert Window(False, False, manifest).show(*_shown(_picture()))
    assert screen.waits == 4


def test_s_saves_a_snapshot_and_never_over_another(screen: Screen, tmp_path: Path) -> None:
    (tmp_path / "snapshot-0000.png").write_bytes(b"older")
    window = Window(False, False, manifest, tmp_path)
    for _ in range(2):
        screen.keys = [ord("s")]
        assert window.show(*_shown(_picture()))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"snapshot-000{n}.png" for n in range(3)]
    assert (tmp_path / "snapshot-0000.png").read_bytes() == b"older"


def test_a_frame_without_a_picture_is_not_shown(screen: Screen, manifest: Manifest) -> None:
    assert Window(True, False, manifest).show(*_shown(None))
    assert not screen.shown
