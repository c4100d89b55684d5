"""Whether OpenCV loads, comes from one wheel, and has what reads cameras and videos."""

import re
import sys
from collections.abc import Iterator

from ..machine.interpreter import PIP
from .finding import Finding
from .package_check import Attempt, numbers

_OLDEST = (4, 8)


def check_opencv(attempt: Attempt) -> list[Finding]:
    """Return how OpenCV is: whether it loads, from which wheels, and with which windows and video readers."""
    if not attempt.version:
        # an exception's reason is a sentence of ours that names the remedy; a crash has none
        remedy = "" if "pip " in attempt.reason else f"{PIP} install --upgrade --force-reinstall opencv-python-headless"
        return [Finding("OpenCV", "BROKEN", attempt.reason.removeprefix("OpenCV "), remedy)]
    from ..images.opencv import cv2, installed_wheels

    wheels, readers = installed_wheels(), _video_readers()
    windows = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    sentence = (
        f"{attempt.version} ({', '.join(wheels) or 'not from pip'}), "
        f"windows {windows.group(1).lower() if windows else 'unknown'}, video {', '.join(readers) or 'none'}"
    )
    return [Finding("OpenCV", "ok", sentence), *_warnings(numbers(attempt.version), wheels, readers)]


def _warnings(version: tuple[int, ...], wheels: list[str], readers: list[str]) -> Iterator[Finding]:
    wheel = wheels[0] if wheels else "opencv-python-headless"
    if len(wheels) > 1:
        remedy = (
            f"keep one: {PIP} uninstall -y {' '.join(wheels)} && {PIP} install opencv-python-headless "
            "(opencv-python where there is a screen)"
        )
        sentence = f"{len(wheels)} wheels overwrite each other: {', '.join(wheels)}"
        yield Finding("OpenCV", "warning", sentence, remedy)
    if version < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        yield Finding("OpenCV", "warning", f"older than {oldest}", f"{PIP} install '{wheel}>={oldest}'")
    if "FFMPEG" not in readers:
        sentence = "without FFmpeg: no rtsp address, of http only MJPEG, and few videos can be read"
        yield Finding("OpenCV", "warning", sentence, f"{PIP} install --force-reinstall {wheel}")
    if sys.platform == "linux" and "V4L2" not in readers:
        sentence = "without V4L2: no USB camera can be read"
        yield Finding("OpenCV", "warning", sentence, f"{PIP} install --force-reinstall {wheel}")


def _video_readers() -> list[str]:
    """Return what reads cameras and videos here, by OpenCV's names; what only reads numbered pictures is left out."""
    from ..images.opencv import cv2

    registry = cv2.videoio_registry
    names = [registry.getBackendName(one) for one in registry.getBackends() if registry.hasBackend(one)]
    return [name for name in dict.fromkeys(names) if not name.startswith("CV_")]
