"""Cameras asked through Video4Linux2: structs and numbers as the kernel's header has them, with a driver made by hand.

The bytes were printed by a C program that includes <linux/videodev2.h> (linux-libc-dev 6.1, x86-64) and fills the
structs by their members; offsets and request numbers are its offsetof and VIDIOC_ values.
"""

import errno
import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("Video4Linux2 is of Linux", allow_module_level=True)

from stn_runtime.sources.v4l2 import Camera, FrameSize, PixelFormat, device_files, holders, read_camera

QUERYCAP, ENUM_FMT, ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
SIZE_OF = {QUERYCAP: 104, ENUM_FMT: 64, ENUM_FRAMESIZES: 44, ENUM_FRAMEINTERVALS: 52}

# driver uvcvideo, card C920, bus usb-1, version 6.1.18; the device captures video, metadata and streams, this node
# captures video and streams
CAPABILITY = bytes.fromhex(
    "757663766964656f000000000000000043393230000000000000000000000000000000000000000000000000000000007573622d31000000"
    "000000000000000000000000000000000000000000000000120106000100808401000004000000000000000000000000"
)
# index 0, capture, compressed, "Motion-JPEG", V4L2_PIX_FMT_MJPEG
MJPEG = bytes.fromhex(
    "0000000001000000010000004d6f74696f6e2d4a5045470000000000000000000000000000000000000000004d4a504700000000"
    "000000000000000000000000"
)
# V4L2_PIX_FMT_MJPEG, discrete, 1920 x 1080
FULL_HD = bytes.fromhex("000000004d4a5047010000008007000038040000000000000000000000000000000000000000000000000000")
# the same, discrete, 1/30 s
THIRTIETH = bytes.fromhex(
    "000000004d4a5047800700003804000001000000010000001e000000000000000000000000000000000000000000000000000000"
)
# stepwise, 32 to 2592 by 2 wide and 32 to 1944 by 2 high
SIZES_IN_STEPS = bytes.fromhex(
    "000000004d4a50470300000020000000200a0000020000002000000098070000020000000000000000000000"
)
# stepwise, 1/90 to 1/1 s by 1/90
INTERVALS_IN_STEPS = bytes.fromhex(
    "000000004d4a5047800700003804000003000000010000005a0000000100000001000000010000005a0000000000000000000000"
)
MJPG, YUYV = 0x47504A4D, 0x56595559


def _changed(data: bytes, changes: Mapping[int, int]) -> bytes:
    """A struct with other numbers at some offsets."""
    buffer = bytearray(data)
    for offset, number in changes.items():
        struct.pack_into("<I", buffer, offset, number)
    return bytes(buffer)


class Driver:
    """Answers requests as a kernel driver: index by index, then EINVAL."""

    def __init__(
        self,
        capability: bytes = CAPABILITY,
        formats: tuple[bytes, ...] = (MJPEG,),
        sizes: Mapping[int, tuple[bytes, ...]] | None = None,
        intervals: Mapping[tuple[int, int, int], tuple[bytes, ...]] | None = None,
    ) -> None:
        self.capability, self.formats = capability, formats
        self.sizes, self.intervals = sizes or {}, intervals or {}
        self.descriptors: set[int] = set()
        self.buffer_types: set[int] = set()

    def __call__(self, descriptor: int, request: int, buffer: bytearray) -> int:
        self.descriptors.add(descriptor)
        assert len(buffer) == SIZE_OF[request]
        index, first, second, third = struct.unpack_from("<4I", buffer)
        if request == QUERYCAP:
            answers: tuple[bytes, ...] = (self.capability,)
        elif request == ENUM_FMT:
            self.buffer_types.add(first)
            answers = self.formats
        elif request == ENUM_FRAMESIZES:
            answers = self.sizes.get(first, ())
        else:
            answers = self.intervals.get((first, second, third), ())
        if index >= len(answers):
            raise OSError(errno.EINVAL, "Invalid argument")
        buffer[:] = answers[index]
        return 0


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "video0"
    path.touch()
    return path


def test_a_camera_is_read_from_the_structs_of_the_kernel(device: Path) -> None:
    driver = Driver(sizes={MJPG: (FULL_HD,)}, intervals={(MJPG, 1920, 1080): (THIRTIETH,)})
    full_hd = FrameSize(1920, 1080, None, 30.0)
    assert read_camera(device, driver) == Camera(device, "C920", "uvcvideo", (PixelFormat("MJPG", (full_hd,)),))
    assert str(full_hd) == "1920x1080 at 30"
    assert driver.buffer_types == {1}


def test_sizes_come_largest_first_with_the_fastest_rate_and_formats_in_the_order_of_the_driver(device: Path) -> None:
    driver = Driver(
        formats=(_changed(MJPEG, {44: YUYV}), MJPEG),
        sizes={
            YUYV: (_changed(FULL_HD, {12: 640, 16: 480}),),
            MJPG: (_changed(FULL_HD, {12: 640, 16: 480}), FULL_HD, _changed(FULL_HD, {12: 1280, 16: 720})),
        },
        intervals={
            (MJPG, 640, 480): (THIRTIETH, _changed(THIRTIETH, {24: 60}), _changed(THIRTIETH, {24: 15})),
            (MJPG, 1920, 1080): (_changed(THIRTIETH, {20: 1001, 24: 30000}),),
            (YUYV, 640, 480): (THIRTIETH,),
        },
    )
    camera = read_camera(device, driver)
    assert camera is not None
    told = {entry.name: ", ".join(map(str, entry.sizes)) for entry in camera.formats}
    assert list(told) == ["YUYV", "MJPG"]
    assert told == {"YUYV": "640x480 at 30", "MJPG": "1920x1080 at 29.97, 1280x720, 640x480 at 60"}


def test_ranges_of_sizes_and_of_intervals_are_told_by_their_ends(device: Path) -> None:
    driver = Driver(sizes={MJPG: (SIZES_IN_STEPS,)}, intervals={(MJPG, 2592, 1944): (INTERVALS_IN_STEPS,)})
    camera = read_camera(device, driver)
    assert camera is not None
    assert camera.formats == (PixelFormat("MJPG", (FrameSize(2592, 1944, (32, 32), 90.0),)),)
    assert str(camera.formats[0].sizes[0]) == "32x32 to 2592x1944 at 90"


def test_a_metadata_node_of_a_camera_is_no_camera(device: Path) -> None:
    metadata_only = _changed(CAPABILITY, {88: 0x04800000})
    assert read_camera(device, Driver(metadata_only)) is None


def test_a_driver_without_flags_of_its_node_is_judged_by_those_of_the_device(device: Path) -> None:
    assert read_camera(device, Driver(_changed(CAPABILITY, {84: 0x04000001, 88: 0}))) is not None
    assert read_camera(device, Driver(_changed(CAPABILITY, {84: 0x04000002, 88: 1}))) is None


def test_a_device_with_several_planes_is_asked_for_formats_with_planes(device: Path) -> None:
    driver = Driver(_changed(CAPABILITY, {88: 0x04001000}))
    assert read_camera(device, driver) is not None
    assert driver.buffer_types == {9}


def test_a_big_endian_format_and_one_of_three_letters_keep_their_names(device: Path) -> None:
    y16 = int.from_bytes(b"Y16 ", "little")
    camera = read_camera(device, Driver(formats=tuple(_changed(MJPEG, {44: code}) for code in (y16, y16 | 1 << 31))))
    assert camera is not None
    assert [entry.name for entry in camera.formats] == ["Y16", "Y16-BE"]


def test_a_driver_that_knows_no_sizes_still_has_formats(device: Path) -> None:
    driver = Driver()

    def ioctl(descriptor: int, request: int, buffer: bytearray) -> int:
        if request == ENUM_FRAMESIZES:
            raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
        return driver(descriptor, request, buffer)

    camera = read_camera(device, ioctl)
    assert camera is not None
    assert camera.formats == (PixelFormat("MJPG", ()),)


def test_a_driver_that_never_ends_its_list_is_not_asked_for_ever(device: Path) -> None:
    driver = Driver()

    def ioctl(descriptor: int, request: int, buffer: bytearray) -> int:
        struct.pack_into("<I", buffer, 0, 0)
        return driver(descriptor, request, buffer)

    camera = read_camera(device, lambda *asked: ioctl(*asked) if asked[1] == ENUM_FMT else driver(*asked))
    assert camera is not None
    assert len(camera.formats) == 512


def test_an_error_of_the_driver_is_passed_on_and_the_device_closed(device: Path) -> None:
    driver = Driver()

    def busy(descriptor: int, request: int, buffer: bytearray) -> int:
        driver(descriptor, request, buffer)
        raise OSError(errno.EBUSY, "Device or resource busy")

    with pytest.raises(OSError, match="busy"):
        read_camera(device, busy)
    [descriptor] = driver.descriptors
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_the_kernel_says_that_a_file_is_no_device(device: Path) -> None:
    with pytest.raises(OSError, match="ioctl") as caught:
        read_camera(device)
    assert caught.value.errno == errno.ENOTTY


def test_devices_are_listed_by_number_and_others_left_out(tmp_path: Path) -> None:
    for name in ("video10", "video2", "v4l-subdev0", "video", "videoX", "media0"):
        (tmp_path / name).touch()
    assert [path.name for path in device_files(tmp_path)] == ["video2", "video10"]


def test_who_has_a_device_open_is_named_and_this_process_is_not(tmp_path: Path) -> None:
    camera, processes = Path("/dev/video0"), tmp_path / "proc"
    for process, target in {"812": camera, "34": "/dev/video1", str(os.getpid()): camera, "self": camera}.items():
        (processes / process / "fd").mkdir(parents=True)
        (processes / process / "fd" / "3").symlink_to(target)
        (processes / process / "comm").write_text("cheese\n")
    (processes / "99").mkdir()  # has ended: its folder of files is gone
    assert holders(camera, processes) == ["cheese (pid 812)"]
    (tmp_path / "usb-cheap-camera").symlink_to(camera)  # as below /dev/v4l/by-id
    assert holders(tmp_path / "usb-cheap-camera", processes) == ["cheese (pid 812)"]
