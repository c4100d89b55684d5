"""The window and its keys, on a screen that is played."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import InputError, Prediction
from stn_runtime.machine.interpreter import PIP
from stn_runtime.model.manifest import Manifest
from stn_runtime.records.record import Record
from stn_runtime.sources.frame import Frame
from stn_runtime.views.window import Window, display_problem, theta_lines

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
    remedy = f"{PIP} uninstall -y opencv-python-headless && {PIP} install opencv-python"
    with pytest.raises(InputError, match=f"^--show: this OpenCV is built without windows; {re.escape(remedy)}"):
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
        self.sizes: list[tuple[int, ...]] = []
        self.names: list[str] = []
        self.visible = 1.0
        self.waits = 0

    def wait_key(self, _milliseconds: int) -> int:
        self.waits += 1
        assert self.waits < 100, "the window waits for ever"
        return self.keys.pop(0) if self.keys else -1


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    made = Screen()
    monkeypatch.setattr("stn_runtime.views.window.display_problem", lambda: "")
    monkeypatch.setattr(cv2, "namedWindow", lambda name, _: made.names.append(name))
    monkeypatch.setattr(cv2, "resizeWindow", lambda _, *size: made.sizes.append(size))
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


def test_s_saves_a_snapshot_and_never_over_another(screen: Screen, manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "snapshot-0000.png").write_bytes(b"older")
    window = Window(False, False, manifest, tmp_path)
    for _ in range(2):
        screen.keys = [ord("s")]
        assert window.show(*_shown(_picture()))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"snapshot-000{n}.png" for n in range(3)]
    assert (tmp_path / "snapshot-0000.png").read_bytes() == b"older"


def test_a_snapshot_that_cannot_be_written_does_not_end_the_run(
    screen: Screen, manifest: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    window = Window(False, False, manifest, tmp_path / "gone")
    screen.keys = [ord("s")]
    assert window.show(*_shown(_picture()))
    assert caplog.messages == [
        f"{tmp_path}/gone/snapshot-0000.png: cannot be written (there is no folder {tmp_path}/gone)"
    ]


def test_a_frame_without_a_picture_is_not_shown(screen: Screen, manifest: Manifest) -> None:
    assert Window(True, False, manifest).show(*_shown(None))
    assert not screen.shown


# --- what is shown


def _with_theta(**changes: str) -> tuple[Frame, Record]:
    frame, record = _shown(_picture())
    prediction = replace(PREDICTION, theta=(0.5, 0.0, 0.25, 0.0, 0.5, -0.25))
    return frame, replace(record, prediction=prediction, **changes)


def _changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns in which two pictures differ."""
    differs = (before != after).any(2)
    return np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))


def test_t_shows_theta_on_the_right_and_takes_it_away_again(screen: Screen, manifest: Manifest) -> None:
    screen.keys = [ord("t"), ord("t"), ord("n")]
    assert Window(True, False, manifest).show(*_with_theta())
    without, shown, again = screen.shown
    _, columns = _changed(without, shown)
    assert len(columns) > 20
    assert columns.min() > shown.shape[1] // 2
    np.testing.assert_array_equal(again, without)


def test_the_panel_stays_for_the_next_pictures(screen: Screen, manifest: Manifest) -> None:
    window = Window(True, False, manifest)
    screen.keys = [ord("t"), ord("n"), ord("n")]
    window.show(*_with_theta())
    window.show(*_with_theta())
    np.testing.assert_array_equal(screen.shown[1], screen.shown[2])


def test_doubt_is_written_on_the_picture(screen: Screen, manifest: Manifest) -> None:
    window = Window(True, False, manifest)
    screen.keys = [ord("n"), ord("n")]
    window.show(*_with_theta())
    window.show(*_with_theta(uncertain="theta is unlike training"))
    rows, columns = _changed(*screen.shown)
    assert len(columns) > 50
    assert rows.max() < screen.shown[0].shape[0] // 4  # below the label, away from the middle


def test_theta_is_told_by_transformer_and_row(manifest: Manifest) -> None:
    _, record = _with_theta()
    assert theta_lines(record, manifest) == ["theta of stn (affine)", "+0.50 +0.00 +0.25", "+0.00 +0.50 -0.25"]
    first, second = (
        replace(manifest.transformers[0], name="first", grid="similarity", theta=(0, 4)),
        replace(manifest.transformers[0], name="second", grid="attention", theta=(4, 7)),
    )
    prediction = replace(PREDICTION, theta=(0.1, 1.0, -2.0, 0.004, 0.7, -0.125, 12.0))
    lines = theta_lines(replace(record, prediction=prediction), replace(manifest, transformers=(first, second)))
    assert lines == [
        "theta of first (similarity)",
        "+0.10 +1.00 -2.00 +0.00",
        "theta of second (attention)",
        "+0.70 -0.12 +12.00",
    ]


# --- live


def test_space_lets_a_live_window_stand_still_and_the_run_go_on(screen: Screen, manifest: Manifest) -> None:
    window = Window(False, True, manifest)
    screen.keys = [ord(" "), -1, -1, ord(" "), -1]
    assert all(window.show(*_shown(_picture(level=level))) for level in (10, 20, 30, 40, 50))
    assert [int(picture[200, 200, 0]) for picture in screen.shown] == [10, 50]
    assert screen.waits == 5  # one look at the keys for each frame: nothing waits


@pytest.mark.parametrize("key", [ord("q"), 27])
def test_a_live_window_that_is_paused_can_be_ended(screen: Screen, manifest: Manifest, key: int) -> None:
    window = Window(False, True, manifest)
    screen.keys = [ord(" "), key]
    assert window.show(*_shown(_picture()))
    assert not window.show(*_shown(_picture()))


def test_a_live_window_answers_its_keys_while_the_camera_is_away(screen: Screen, manifest: Manifest) -> None:
    window = Window(False, True, manifest)
    assert window.idle()  # nothing to look at yet
    assert window.show(*_shown(_picture()))
    screen.keys = [-1, ord("q"), ord("q")]
    assert window.show(*_shown(None))
    assert not window.idle()
    assert not window.show(*_shown(None))


def test_each_camera_has_a_window(screen: Screen, manifest: Manifest) -> None:
    window = Window(False, True, manifest)
    frame, record = _shown(_picture())
    for source in ("left", "right", "left"):
        window.show(replace(frame, source=source), replace(record, source=source))
    assert len(screen.names) == len(set(screen.names)) == 2


def test_a_window_that_waits_ends_when_it_is_dismissed(
    screen: Screen, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = Window(True, False, manifest)

    def interrupted(_milliseconds: int) -> int:
        window.interrupt()  # as a signal handler does
        return -1

    monkeypatch.setattr(cv2, "waitKey", interrupted)
    assert not window.show(*_shown(_picture()))


# --- frames a second


@pytest.mark.parametrize(("picture", "window"), [((300, 400), (400, 300)), ((1440, 2560), (1280, 720))], ids=str)
def test_a_window_opens_as_large_as_its_picture_within_reason(
    screen: Screen, manifest: Manifest, picture: tuple[int, int], window: tuple[int, int]
) -> None:
    shown = Window(False, False, manifest)
    for _ in range(2):
        shown.show(*_shown(_picture(*picture)))
    assert screen.sizes == [window]
