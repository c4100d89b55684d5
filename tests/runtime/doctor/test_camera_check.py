"""What doctor says of cameras: free, open elsewhere, forbidden, busy, gone, or on a Raspberry Pi's ribbon cable."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("cameras are listed on Linux only", allow_module_level=True)

from stn_runtime.doctor import camera_check
from stn_runtime.doctor.camera_check import check_cameras
from stn_runtime.doctor.finding import Finding
from stn_runtime.sources.v4l2 import Camera, FrameSize, PixelFormat

ZERO, ONE = Path("/dev/video0"), Path("/dev/video1")
WEBCAM = Camera(
    ZERO,
    "HD Webcam C920",
    "uvcvideo",
    (
        PixelFormat("MJPG", (FrameSize(1920, 1080, None, 30.0), FrameSize(640, 480, None, 60.0))),
        PixelFormat("YUYV", (FrameSize(640, 480, None, 30.0),)),
    ),
)
RIBBON = Camera(ZERO, "unicam", "unicam", (PixelFormat("pBAA", ()),))
WEBCAM_TOLD = "/dev/video0 HD Webcam C920 (uvcvideo): MJPG 1920x1080 at 30, 640x480 at 60; YUYV 640x480 at 30"

Connect = Callable[..., None]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """``connect({path: camera, None or errno}, board="", holders=[], picamera2=None or what its listing prints)``."""

    def connect(
        devices: dict[Path, Camera | int | None],
        board: str = "",
        holders: tuple[str, ...] = (),
        picamera2: str | None = None,
    ) -> None:
        def read(path: Path) -> Camera | None:
            answer = devices[path]
            if isinstance(answer, int):
                raise OSError(answer, os.strerror(answer))
            return answer

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:  # noqa: ANN401
            return subprocess.CompletedProcess(command, 0, (picamera2 or "").encode(), b"")

        monkeypatch.setattr(camera_check, "device_files", lambda: list(devices))
        monkeypatch.setattr(camera_check, "read_camera", read)
        monkeypatch.setattr(camera_check, "holders", lambda _: list(holders))
        monkeypatch.setattr(camera_check, "board", lambda: board)
        monkeypatch.setattr(camera_check, "find_spec", lambda name: None if picamera2 is None else name)
        monkeypatch.setattr(subprocess, "run", run)

    return connect


def test_a_free_camera_is_told_with_its_formats_and_its_metadata_node_is_not(connect: Connect) -> None:
    connect({ZERO: WEBCAM, ONE: None})
    assert check_cameras() == [Finding("camera", "ok", WEBCAM_TOLD)]


def test_of_many_sizes_the_largest_are_told(connect: Connect) -> None:
    sizes = tuple(FrameSize(width, width, None, None) for width in (900, 800, 700, 600, 500, 400))
    connect({ZERO: Camera(ZERO, "Cam", "uvcvideo", (PixelFormat("MJPG", sizes),))})
    [found] = check_cameras()
    assert found.sentence == "/dev/video0 Cam (uvcvideo): MJPG 900x900, 800x800, 700x700, 600x600 and 2 smaller"


def test_a_camera_that_is_open_elsewhere_names_the_program(connect: Connect) -> None:
    connect({ZERO: WEBCAM}, holders=("cheese (pid 812)",))
    [found] = check_cameras()
    assert (found.state, found.sentence) == ("warning", f"{WEBCAM_TOLD}; open in cheese (pid 812)")
    assert found.remedy == "end that program if stn run reports the camera as busy"


def test_devices_that_are_forbidden_are_one_line_with_the_command(connect: Connect) -> None:
    connect({ZERO: errno.EACCES, ONE: errno.EPERM})
    [found] = check_cameras()
    assert (found.state, found.sentence) == ("warning", "this user may not open /dev/video0, /dev/video1")
    assert found.remedy.startswith("sudo usermod -aG video $USER, then log out and in")


@pytest.mark.parametrize(
    ("holders", "told", "mend"),
    [
        (("cheese (pid 812)",), "/dev/video0 is busy: cheese (pid 812)", "end that program"),
        ((), "/dev/video0 is busy: a program of another user", "sudo fuser -v /dev/video0 names it"),
    ],
)
def test_a_busy_camera_names_its_holder(connect: Connect, holders: tuple[str, ...], told: str, mend: str) -> None:
    connect({ZERO: errno.EBUSY}, holders=holders)
    assert check_cameras() == [Finding("camera", "warning", told, mend)]


def test_a_camera_that_was_unplugged_is_told_and_what_is_no_video_device_is_not(connect: Connect) -> None:
    connect({ZERO: errno.ENODEV, ONE: errno.ENOTTY})
    assert check_cameras() == [
        Finding("camera", "warning", "/dev/video0 cannot be asked (No such device)", "plug it in again")
    ]


def test_no_camera_is_a_note(connect: Connect) -> None:
    connect({ONE: None})
    assert check_cameras() == [Finding("camera", "note", "none found: is it plugged in?")]
    connect({}, board="Raspberry Pi 5 Model B Rev 1.0")
    [found] = check_cameras()
    assert found.remedy == "rpicam-hello --list-cameras tells of one on the ribbon cable"


def test_a_ribbon_camera_without_picamera2_says_what_to_install(connect: Connect) -> None:
    isp = Camera(Path("/dev/video13"), "bcm2835-isp", "bcm2835-isp", ())
    connect({ZERO: RIBBON, Path("/dev/video13"): isp}, board="Raspberry Pi 4 Model B Rev 1.4")
    [found] = check_cameras()
    assert found.state == "warning"
    assert found.sentence == "the ribbon cable (/dev/video0) is read through picamera2, which is not installed"
    assert found.remedy == (
        "sudo apt install python3-picamera2; python3 -m venv --system-site-packages VENV; then stn run picam"
    )


def test_ribbon_cameras_are_listed_by_picamera2(connect: Connect) -> None:
    connect({ZERO: RIBBON}, board="Raspberry Pi 4 Model B Rev 1.4", picamera2='log\n["imx708", "ov5647"]\n')
    assert [str(found) for found in check_cameras()] == [
        "ok       camera       imx708 on the ribbon cable, through picamera2: stn run picam",
        "ok       camera       ov5647 on the ribbon cable, through picamera2: stn run picam",
    ]


def test_a_picamera2_that_fails_is_warned_of(connect: Connect) -> None:
    connect({}, board="Raspberry Pi 4 Model B Rev 1.4", picamera2="")
    [found] = check_cameras()
    assert (found.state, found.sentence) == ("warning", "picamera2 cannot list cameras")


def test_cameras_on_usb_are_not_listed_a_second_time_by_picamera2(tmp_path: Path) -> None:
    (tmp_path / "picamera2.py").write_text(
        "class Picamera2:\n"
        "    def global_camera_info():\n"
        "        return [{'Model': 'imx708', 'Id': '/base/soc/i2c0mux/i2c@1/imx708@1a'},\n"
        "                {'Model': 'C920', 'Id': '/base/scb/pcie@7d500000/usb@0,0-1.2:1.0-046d:0825'}]\n"
    )
    command = [sys.executable, "-c", camera_check._LIST_PICAMERAS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == '["imx708"]\n'


def test_on_another_system_cameras_are_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert check_cameras() == [Finding("camera", "note", "cameras are listed on Linux only; here, try: stn run 0")]
