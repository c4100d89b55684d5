"""Cameras as Linux describes them: the queries of Video4Linux2, without a package or a tool.

Structs, flags and request numbers are those of the kernel's uapi header ``linux/videodev2.h``; requests are numbered as
in ``asm-generic/ioctl.h``, which holds on x86, ARM and RISC-V. Nothing is set and no picture is taken, so a camera that
another program reads is not disturbed.
"""

import errno
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fcntl import ioctl as system_ioctl
from pathlib import Path

Ioctl = Callable[[int, int, bytearray], int]
"""Sends a request to an open device; fills the buffer in place, raises OSError."""

_CAPABILITY = struct.Struct("=16s32s32sIII12x")  # driver, card, bus_info, version, capabilities, device_caps
_FORMAT = struct.Struct("=III32sI16x")  # index, type, flags, description, pixelformat
_SIZE = struct.Struct("=III6I8x")  # index, pixel_format, type, a size or (min, max, step) of width, then of height
_INTERVAL = struct.Struct("=IIIII6I8x")  # index, pixel_format, width, height, type, a fraction or min, max, step

_READ, _WRITE = 2, 1
_FROM_DEVICE_CAPS = 0x80000000
_CAPTURE, _CAPTURE_PLANES = 0x00000001, 0x00001000
_BUFFER, _BUFFER_PLANES = 1, 9
_DISCRETE = 1
_BIG_ENDIAN = 1 << 31
_ENDLESS = 512  # a driver that never says it is done is not asked for ever


def _request(direction: int, number: int, layout: struct.Struct) -> int:
    return direction << 30 | layout.size << 16 | ord("V") << 8 | number


_QUERYCAP = _request(_READ, 0, _CAPABILITY)
_ENUM_FMT = _request(_READ | _WRITE, 2, _FORMAT)
_ENUM_FRAMESIZES = _request(_READ | _WRITE, 74, _SIZE)
_ENUM_FRAMEINTERVALS = _request(_READ | _WRITE, 75, _INTERVAL)


@dataclass(frozen=True)
class FrameSize:
    """A size of picture that a camera gives.

    Attributes:
        width: Pixels; of a range, the largest.
        height: Pixels; of a range, the largest.
        smallest: Width and height where any size from there on can be had; None for this size only.
        rate: Most frames a second at this size; None where the driver does not say.
    """

    width: int
    height: int
    smallest: tuple[int, int] | None
    rate: float | None

    def __str__(self) -> str:
        start = f"{self.smallest[0]}x{self.smallest[1]} to " if self.smallest else ""
        return f"{start}{self.width}x{self.height}" + (f" at {self.rate:.4g}" if self.rate else "")


@dataclass(frozen=True)
class PixelFormat:
    """A format of pixels: its four letters, such as MJPG, and its sizes, the largest first."""

    name: str
    sizes: tuple[FrameSize, ...]


@dataclass(frozen=True)
class Camera:
    """A device that captures video.

    Attributes:
        path: Such as /dev/video0.
        card: The maker's name of the camera.
        driver: Kernel driver.
        formats: Pixel formats in the driver's order of preference.
    """

    path: Path
    card: str
    driver: str
    formats: tuple[PixelFormat, ...]


def device_files(folder: Path = Path("/dev")) -> list[Path]:
    """Return the video devices by number, cameras and others."""
    devices = [path for path in folder.glob("video*") if path.name.removeprefix("video").isdecimal()]
    return sorted(devices, key=lambda path: int(path.name.removeprefix("video")))


def read_camera(path: Path, ioctl: Ioctl = system_ioctl) -> Camera | None:
    """Return what a device says of itself; None when it captures no video (metadata, codecs, outputs).

    Raises:
        OSError: It cannot be opened or asked.
    """
    device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        buffer = bytearray(_CAPABILITY.size)
        ioctl(device, _QUERYCAP, buffer)
        driver, card, _, _, capabilities, of_this_node = _CAPABILITY.unpack(buffer)
        able = of_this_node if capabilities & _FROM_DEVICE_CAPS else capabilities
        if not able & (_CAPTURE | _CAPTURE_PLANES):
            return None
        formats = tuple(_formats(device, _BUFFER if able & _CAPTURE else _BUFFER_PLANES, ioctl))
    finally:
        os.close(device)
    return Camera(path, _text(card), _text(driver), formats)


def holders(path: Path, processes: Path = Path("/proc")) -> list[str]:
    """Return the other programs that have a device open, as ``name (pid 123)``; of other users' only root sees any."""
    names, device = [], os.path.realpath(path)  # a name below /dev/v4l is a link
    for process in processes.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(os.readlink(entry) == device for entry in (process / "fd").iterdir()):
                names.append(f"{(process / 'comm').read_text(errors='replace').strip()} (pid {process.name})")
        except OSError:  # it has ended, or is another user's
            continue
    return sorted(names)


def _formats(device: int, buffer_type: int, ioctl: Ioctl) -> Iterator[PixelFormat]:
    for answer in _enumerate(device, _ENUM_FMT, _FORMAT, (buffer_type, 0, b"", 0), ioctl):
        code: int = answer[4]
        sizes = sorted(_sizes(device, code, ioctl), key=lambda size: (-size.width * size.height, -size.width))
        name = (code & ~_BIG_ENDIAN).to_bytes(4, "little").decode("ascii", "replace").strip()
        yield PixelFormat(name + ("-BE" if code & _BIG_ENDIAN else ""), tuple(sizes))


def _sizes(device: int, code: int, ioctl: Ioctl) -> Iterator[FrameSize]:
    for _, _, kind, *numbers in _enumerate(device, _ENUM_FRAMESIZES, _SIZE, (code, 0, *[0] * 6), ioctl):
        smallest = None
        if kind == _DISCRETE:
            width, height = numbers[:2]
        else:
            smallest, (width, height) = (numbers[0], numbers[3]), (numbers[1], numbers[4])
        yield FrameSize(width, height, smallest, _rate(device, code, width, height, ioctl))


def _rate(device: int, code: int, width: int, height: int, ioctl: Ioctl) -> float | None:
    """Return the most frames a second: one over the shortest interval, which a range begins with."""
    wanted = (code, width, height, 0, *[0] * 6)
    answers = _enumerate(device, _ENUM_FRAMEINTERVALS, _INTERVAL, wanted, ioctl)
    return max((answer[6] / answer[5] for answer in answers if answer[5]), default=None)


def _enumerate(
    device: int, request: int, layout: struct.Struct, wanted: tuple[int | bytes, ...], ioctl: Ioctl
) -> Iterator[tuple[int, ...]]:
    """Yield the answers for index 0, 1, ... until the driver has no more, or does not know the request."""
    for index in range(_ENDLESS):
        buffer = bytearray(layout.pack(index, *wanted))
        try:
            ioctl(device, request, buffer)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):
                return
            raise
        yield layout.unpack(buffer)


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "replace")
