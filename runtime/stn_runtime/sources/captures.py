"""How cameras and streams are opened: devices and streams through OpenCV, MJPEG over HTTP, the Raspberry Pi's own."""

import os
import re
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, printable
from ..images.opencv import cv2
from ..machine.interpreter import PIP
from ..machine.redaction import describe_cause
from .mjpeg import MjpegStream, NotMjpegError

PICAM = re.compile(r"picam(?::(\d+))?")
"""The name of a camera on a Raspberry Pi's ribbon cable: picam, or picam:1 for the second."""

_BACKENDS = {
    "avfoundation": cv2.CAP_AVFOUNDATION,
    "dshow": cv2.CAP_DSHOW,
    "ffmpeg": cv2.CAP_FFMPEG,
    "gstreamer": cv2.CAP_GSTREAMER,
    "msmf": cv2.CAP_MSMF,
    "v4l2": cv2.CAP_V4L2,
}
_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}  # where an address names none
_MOST_BROKEN = 100  # frames in a row that cannot be decoded, before the camera counts as closed

UNREACHABLE = "is it connected, switched on, and not in use by another program?"
"""What to ask about a camera that does not open."""


@dataclass(frozen=True)
class CameraOptions:
    """How cameras are asked for pictures, and watched.

    Attributes:
        backend: OpenCV back end of devices: v4l2, gstreamer, dshow, msmf, avfoundation, ffmpeg; None lets it choose.
        size: (width, height) to ask for, pixels.
        rate: Frames a second to ask for.
        mjpg: Whether to ask for Motion JPEG, without which USB cameras are slow at large sizes.
        still_ok: Whether a camera without a clock may repeat one picture, as of a slide or a dark room; otherwise it
            then counts as frozen.
        stall_seconds: After so long without a new picture a camera is lost.
        wait: Whether to go on trying a camera that cannot be opened at first.
    """

    backend: str | None = None
    size: tuple[int, int] | None = None
    rate: float | None = None
    mjpg: bool = False
    still_ok: bool = False
    stall_seconds: float = 10.0
    wait: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that no camera can have.

        Raises:
            ValueError: A number is not positive.
        """
        for name, value in (("size", self.size), ("rate", self.rate), ("stall_seconds", self.stall_seconds)):
            numbers = value if isinstance(value, tuple) else () if value is None else (value,)
            if not all(number > 0 for number in numbers):
                raise ValueError(f"{name} must be above 0, got {value}")


AS_IT_COMES = CameraOptions()


@dataclass(frozen=True, eq=False)
class Grabbed:
    """A picture as it came.

    Attributes:
        moment: Unix time of its arrival.
        clock: Seconds by the camera's own clock, or the arrival of a complete part over HTTP; None without either.
        data: A JPEG, or pixels, grey or BGR as OpenCV gives them.
    """

    moment: float
    clock: float | None
    data: bytes | NDArray[np.uint8]

    def equals(self, other: "Grabbed") -> bool:
        """Return whether both are the same picture to the last bit, as no sensor gives twice."""
        if isinstance(self.data, bytes) or isinstance(other.data, bytes):
            return isinstance(self.data, type(other.data)) and bool(self.data == other.data)
        if self.data.shape != other.data.shape or not np.array_equal(self.data[::16, ::16], other.data[::16, ::16]):
            return False
        return np.array_equal(self.data, other.data)


class Capture(Protocol):
    """An open camera or stream; used on one thread."""

    @property
    def rate(self) -> float | None:
        """Frames a second, if it says."""

    def read(self) -> Grabbed | None:
        """Wait for a picture; None when there will be none any more."""

    def release(self) -> None:
        """Let the camera go."""


class _StreamOptions:
    """FFmpeg's options for streams, in the environment, which is the only way, while streams are being opened.

    They would hold for video files too, and spoil them.
    """

    _NAME, _VALUE = "OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|fflags;nobuffer+discardcorrupt|flags;low_delay"

    def __init__(self) -> None:
        self._lock, self._users, self._is_ours = threading.Lock(), 0, False

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._is_ours = self._NAME not in os.environ
                os.environ.setdefault(self._NAME, self._VALUE)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._is_ours:
                del os.environ[self._NAME]


_stream_options = _StreamOptions()


def open_capture(name: str, options: CameraOptions) -> Capture:
    """Open a camera or stream.

    Args:
        name: A camera's number or /dev path, ``picam``, an address, or for GStreamer a pipeline.
        options: Size, rate and format to ask the camera for.

    Raises:
        InputError: It cannot be opened; the sentence lacks the name.
    """
    name = re.sub(r"^\w+(?=://)", lambda scheme: scheme[0].lower(), name)
    if match := PICAM.fullmatch(name):
        return _RibbonCamera(int(match[1] or 0), options)
    if re.match(r"https?://", name):
        try:
            return _JpegCapture(MjpegStream(name, options.stall_seconds))
        except NotMjpegError as error:
            if str(error).startswith("image/"):
                raise InputError("is the address of a single picture; give that of the camera's stream") from error
            return _open_stream(name, options)
    if re.match(r"rtsps?://", name):
        return _open_stream(name, options)
    return _open_device(name, options)


def check_backend(backend: str | None) -> None:
    """Raise InputError unless OpenCV has this back end for cameras here."""
    if backend is None:
        return
    here = {_name for _name, number in _BACKENDS.items() if number in set(cv2.videoio_registry.getBackends())}
    if backend not in here:
        raise InputError(f"--backend {backend}: this OpenCV has {', '.join(sorted(here)) or 'none'}")


class _JpegCapture:
    rate = None

    def __init__(self, stream: MjpegStream) -> None:
        self._stream = stream

    def read(self) -> Grabbed | None:
        part = self._stream.read()
        return None if part is None else Grabbed(part[0], part[0], part[1])  # a new part is a sign of life

    def release(self) -> None:
        self._stream.release()


class _OpenCvCapture:
    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate: float | None = rate if 0 < rate < 1000 else None

    def read(self) -> Grabbed | None:
        for _ in range(_MOST_BROKEN):
            if not self._capture.grab():
                return None
            moment = time.time()
            done, image = self._capture.retrieve()
            if done and image is not None:
                clock = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                return Grabbed(moment, clock if clock > 0 else None, _as_picture(image))
        return None

    def release(self) -> None:
        self._capture.release()


def _as_picture(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))):
        channels = image.shape[2] if image.ndim == 3 else 1
        raise InputError(f"gives {channels} x {image.dtype} a pixel; only grey and colour of 8 bits are read")
    return image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image


class _RibbonCamera:
    """A camera on a Raspberry Pi's ribbon cable, which only libcamera can read, through picamera2."""

    def __init__(self, number: int, options: CameraOptions) -> None:
        try:
            picamera2 = import_module("picamera2")
        except ImportError as error:
            raise InputError(
                "needs picamera2, which is not installed: sudo apt install python3-picamera2, "
                "and make the environment with 'python3 -m venv --system-site-packages'"
            ) from error
        except ValueError as error:  # picamera2#1088
            raise InputError(
                f'finds a picamera2 that was built for numpy 1: {PIP} install "numpy<2" "opencv-python-headless<4.12"'
            ) from error
        with ExitStack() as undone:
            try:
                self._camera: Any = picamera2.Picamera2(number)
                undone.callback(self._camera.close)  # or it is in use for ever
                self._stall_seconds = options.stall_seconds
                # picamera2 names formats by the bytes of a little-endian word: RGB888 is what OpenCV calls BGR.
                main = {"format": "RGB888", "size": options.size or (1280, 720)}
                controls = {"FrameRate": options.rate} if options.rate else {}
                self._camera.configure(self._camera.create_video_configuration(main=main, controls=controls))
                self._camera.start()
            except (IndexError, RuntimeError) as error:
                cause = describe_cause(error)
                raise InputError(
                    f"cannot be opened ({cause}); is its cable seated, and does no other program use it?"
                ) from error
            undone.pop_all()
        self.rate = options.rate

    def read(self) -> Grabbed | None:
        try:
            request = self._camera.capture_request(wait=self._stall_seconds)
        except TimeoutError:
            return None
        moment = time.time()
        try:
            clock = request.get_metadata().get("SensorTimestamp", 0) / 1e9
            return Grabbed(moment, clock or None, request.make_array("main"))
        finally:
            request.release()

    def release(self) -> None:
        try:
            with suppress(AttributeError):  # old versions lack it
                # A capture that was given up still stands in the queue, and stop() would wait behind it.
                self._camera.cancel_all_and_flush()
            self._camera.stop()
        finally:
            self._camera.close()


def _open_device(name: str, options: CameraOptions) -> Capture:
    source = int(name) if name.isdecimal() else name
    backend = _BACKENDS[options.backend] if options.backend else cv2.CAP_ANY
    if backend == cv2.CAP_ANY and sys.platform == "linux":
        backend = cv2.CAP_V4L2  # others would try to read a device as a file
    capture = cv2.VideoCapture(source, backend)
    if not capture.isOpened():
        device = Path(f"/dev/video{name}" if name.isdecimal() else name)
        raise InputError(f"cannot be opened ({_cause_of_device(device)}); {_remedy(device)}")
    if options.mjpg:  # before the size: it decides which sizes and rates there are
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    if options.size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size[1])
    if options.rate:
        capture.set(cv2.CAP_PROP_FPS, options.rate)
    _report_difference(name, capture, options)
    return _OpenCvCapture(capture)


def _cause_of_device(device: Path) -> str:
    """Return why a device cannot be opened, of which OpenCV keeps silent."""
    if sys.platform == "linux" and device.is_absolute():
        try:
            os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
        except OSError as error:
            return f"{device}: {error.strerror}"
    return "OpenCV says no more; --verbose shows its log"


def _remedy(device: Path) -> str:
    if sys.platform == "linux" and re.match(r"video\d", os.path.basename(os.path.realpath(device))) and device.exists():
        if not os.access(device, os.R_OK | os.W_OK):
            return "this user may not: sudo usermod -aG video $USER, then log in again"
        from .v4l2 import holders  # for Linux alone

        others = holders(device)
        if others:
            return f"it is in use by {', '.join(others)}"
    return f"{UNREACHABLE} 'stn doctor' lists what is here"


def _report_difference(name: str, capture: cv2.VideoCapture, options: CameraOptions) -> None:
    given = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    rate = capture.get(cv2.CAP_PROP_FPS)
    if options.size not in (None, given) or (options.rate and abs(rate - options.rate) > 0.5):
        sys.stderr.write(
            f"camera {name}: gives {given[0]} x {given[1]} at {rate:g} frames a second instead of what was asked for; "
            "'stn doctor' lists what it can\n"
        )


def _open_stream(address: str, options: CameraOptions) -> Capture:
    timeout = round(1000 * options.stall_seconds)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, max(timeout, 10_000), cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout]
    with _stream_options:
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
    if not capture.isOpened():
        cause = _cause_of_stream(address, min(timeout / 1000, 3.0))
        raise InputError(f"cannot be opened as a stream ({cause}); is the address right, and the camera switched on?")
    return _OpenCvCapture(capture)


def _cause_of_stream(address: str, timeout: float) -> str:
    """Return why a stream cannot be opened, of which OpenCV keeps silent: ask its server ourselves (RFC 2326, 10.2)."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        with socket.create_connection((host, port), timeout) as connection:
            if parts.scheme != "rtsp":
                return "it answers with no video that FFmpeg knows; --verbose shows FFmpeg's log"
            bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
            connection.settimeout(timeout)
            connection.sendall(f"DESCRIBE {bare} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
            answer = connection.recv(200).partition(b"\r\n")[0].decode("latin-1").partition(" ")[2]
    except (OSError, ValueError) as error:
        return describe_cause(getattr(error, "strerror", None) or error)
    if answer.startswith("401"):
        return "user or password is wrong" if parts.username else "it wants rtsp://USER:PASSWORD@..."
    if answer.startswith("200"):
        return "it sends no video that FFmpeg knows; --verbose shows FFmpeg's log"
    return f"it answers '{printable(answer, 60)}'" if answer else "it does not answer as an RTSP server"
