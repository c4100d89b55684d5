"""The cameras of this device, for ``stn doctor``: what each gives, who holds it, and what stands in the way."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from ..machine.processor import board
from .finding import Finding

if sys.platform == "linux":
    from ..sources.v4l2 import Camera, FrameSize, device_files, holders, read_camera

_SECONDS = 20
_SIZES_SHOWN = 4

_CSI_DRIVERS = frozenset({"unicam", "rp1-cfe"})  # of a Raspberry Pi's ribbon connector
_ISP_DRIVERS = frozenset({"bcm2835-isp", "pispbe"})  # its image processor: memory to memory, no camera behind it

_LIST_PICAMERAS = """
import json
from picamera2 import Picamera2
cameras = Picamera2.global_camera_info()
print(json.dumps([camera["Model"] for camera in cameras if "usb" not in camera.get("Id", "").lower()]))
"""


def check_cameras() -> list[Finding]:
    """Return what is known of each camera; on other systems than Linux, that nothing is."""
    if sys.platform != "linux":
        return [Finding("camera", "note", "cameras are listed on Linux only; here, try: stn run 0")]
    answers = {path: _ask(path) for path in device_files()}
    cameras = [answer for answer in answers.values() if isinstance(answer, Camera)]
    ribbons = [camera for camera in cameras if camera.driver in _CSI_DRIVERS]
    findings = [_describe(camera) for camera in cameras if camera.driver not in _CSI_DRIVERS | _ISP_DRIVERS]
    findings += _check_unreadable({path: answer for path, answer in answers.items() if isinstance(answer, OSError)})
    is_raspberry = board().startswith("Raspberry Pi")
    if ribbons or (is_raspberry and find_spec("picamera2") is not None):
        findings += _check_picamera2([str(camera.path) for camera in ribbons])
    if not findings:
        remedy = "rpicam-hello --list-cameras tells of one on the ribbon cable" if is_raspberry else ""
        findings = [Finding("camera", "note", "none found: is it plugged in?", remedy)]
    return findings


def _ask(path: Path) -> Camera | OSError | None:
    try:
        return read_camera(path)
    except OSError as error:
        return error


def _describe(camera: Camera) -> Finding:
    formats = "; ".join(f"{entry.name} {_sizes(entry.sizes)}".strip() for entry in camera.formats)
    sentence = f"{camera.path} {camera.card} ({camera.driver}): {formats or 'no formats'}"
    others = holders(camera.path)
    if others:
        sentence += f"; open in {', '.join(others)}"
        return Finding("camera", "warning", sentence, "end that program if stn run reports the camera as busy")
    return Finding("camera", "ok", sentence)


def _sizes(sizes: tuple[FrameSize, ...]) -> str:
    shown = ", ".join(map(str, sizes[:_SIZES_SHOWN]))
    rest = len(sizes) - _SIZES_SHOWN
    return f"{shown} and {rest} smaller" if rest > 0 else shown


def _check_unreadable(errors: Mapping[Path, OSError]) -> Iterator[Finding]:
    forbidden = [str(path) for path, error in errors.items() if error.errno in (errno.EACCES, errno.EPERM)]
    if forbidden:
        remedy = "sudo usermod -aG video $USER, then log out and in; in a container, start it with --device"
        yield Finding("camera", "warning", f"this user may not open {', '.join(forbidden)}", remedy)
    for path, error in errors.items():
        if error.errno == errno.EBUSY:
            others = ", ".join(holders(path))
            remedy = "end that program" if others else f"sudo fuser -v {path} names it"
            yield Finding("camera", "warning", f"{path} is busy: {others or 'a program of another user'}", remedy)
        elif str(path) not in forbidden and error.errno not in (errno.ENOTTY, errno.EINVAL):  # those are no cameras
            yield Finding("camera", "warning", f"{path} cannot be asked ({error.strerror})", "plug it in again")


def _check_picamera2(ribbons: list[str]) -> list[Finding]:
    """Return the cameras on the ribbon connectors, which libcamera reads and V4L2 alone cannot."""
    if find_spec("picamera2") is None:
        sentence = f"the ribbon cable ({', '.join(ribbons)}) is read through picamera2, which is not installed"
        remedy = "sudo apt install python3-picamera2; python3 -m venv --system-site-packages VENV; then stn run picam"
        return [Finding("camera", "warning", sentence, remedy)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LIST_PICAMERAS], capture_output=True, timeout=_SECONDS, check=False
        )
        models = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return [Finding("camera", "warning", "picamera2 cannot list cameras", "rpicam-hello --list-cameras says why")]
    return [
        Finding("camera", "ok", f"{model} on the ribbon cable, through picamera2: stn run picam") for model in models
    ]
