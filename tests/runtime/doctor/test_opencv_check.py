"""What doctor says of OpenCV: missing, killed, two wheels at once, and what it cannot read."""

import sys
from types import SimpleNamespace

import pytest

from stn_runtime.doctor import opencv_check
from stn_runtime.doctor.finding import Finding
from stn_runtime.doctor.opencv_check import check_opencv
from stn_runtime.doctor.package_check import Attempt
from stn_runtime.images import opencv
from stn_runtime.machine.interpreter import PIP

READERS = ["FFMPEG", "V4L2"]


@pytest.fixture(autouse=True)
def _a_whole_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ["opencv-python"], READERS)
    monkeypatch.setattr(sys, "platform", "linux")


def _install(monkeypatch: pytest.MonkeyPatch, wheels: list[str], readers: list[str]) -> None:
    monkeypatch.setattr(opencv, "installed_wheels", lambda: wheels)
    monkeypatch.setattr(opencv.cv2, "getBuildInformation", lambda: "\n  GUI:                 QT5\n    QT:  YES\n")
    monkeypatch.setattr(opencv_check, "_video_readers", lambda: readers)


def test_a_whole_opencv_is_one_line() -> None:
    told = "4.10.0 (opencv-python), windows qt5, video FFMPEG, V4L2"
    assert check_opencv(Attempt("4.10.0")) == [Finding("OpenCV", "ok", told)]


def test_opencv_of_the_system_has_no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, [], [*READERS, "GSTREAMER"])
    [found] = check_opencv(Attempt("4.10.0"))
    assert found.sentence == "4.10.0 (not from pip), windows qt5, video FFMPEG, V4L2, GSTREAMER"


def test_the_sentence_of_a_failed_import_is_passed_on() -> None:
    reason = "opencv-python needs a system library that is missing (libGL.so.1): apt-get install libgl1, or pip ..."
    assert check_opencv(Attempt(reason=reason)) == [Finding("OpenCV", "BROKEN", reason)]
    [missing] = check_opencv(Attempt(reason=f"OpenCV is not installed: {PIP} install 'stn-edge[gui]'"))
    assert missing.sentence == f"is not installed: {PIP} install 'stn-edge[gui]'"


def test_a_crash_has_a_remedy_too() -> None:
    [found] = check_opencv(Attempt(reason="kills its process: Segmentation fault"))
    assert (found.state, found.sentence) == ("BROKEN", "kills its process: Segmentation fault")
    assert found.remedy == f"{PIP} install --upgrade --force-reinstall opencv-python-headless"


def test_two_wheels_that_load_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ["opencv-python", "opencv-python-headless"], READERS)
    _, found = check_opencv(Attempt("4.10.0"))
    assert found.state == "warning"
    assert found.sentence == "2 wheels overwrite each other: opencv-python, opencv-python-headless"
    assert found.remedy.startswith(
        f"keep one: {PIP} uninstall -y opencv-python opencv-python-headless && {PIP} install opencv-python-headless"
    )


def test_an_old_opencv_is_warned_of() -> None:
    _, found = check_opencv(Attempt("4.6.0"))
    assert found == Finding("OpenCV", "warning", "older than 4.8", f"{PIP} install 'opencv-python>=4.8'")


def test_what_it_cannot_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ["opencv-python-headless"], [])
    found = check_opencv(Attempt("4.10.0"))
    assert found[0].sentence.endswith("video none")
    assert [(entry.state, entry.sentence, entry.remedy) for entry in found[1:]] == [
        (
            "warning",
            "without FFmpeg: no rtsp address, of http only MJPEG, and few videos can be read",
            f"{PIP} install --force-reinstall opencv-python-headless",
        ),
        (
            "warning",
            "without V4L2: no USB camera can be read",
            f"{PIP} install --force-reinstall opencv-python-headless",
        ),
    ]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert len(check_opencv(Attempt("4.10.0"))) == 2


def test_readers_that_are_plugins_and_not_there_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = {1: "FFMPEG", 2: "GSTREAMER", 3: "CV_IMAGES", 4: "V4L2", 5: "FFMPEG"}
    registry = SimpleNamespace(
        getBackends=lambda: list(names), getBackendName=names.get, hasBackend=lambda number: number != 2
    )
    monkeypatch.setattr(opencv.cv2, "videoio_registry", registry)
    assert opencv_check._video_readers() == ["FFMPEG", "V4L2"]
