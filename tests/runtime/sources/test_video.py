"""Video files: every frame in order, with its time."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stn_runtime import InputError
from stn_runtime.sources.done import Done
from stn_runtime.sources.frame import Selection
from stn_runtime.sources.opening import open_source
from stn_runtime.sources.video import Video


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4", "CLIP.AVI"])
def test_a_video_gives_every_frame_in_order(make_video: Callable[..., Path], name: str) -> None:
    path = make_video(name.lower())
    source = open_source(str(path.rename(path.with_name(name))))
    assert isinstance(source, Video)
    assert (source.live, source.total) == (False, 12)
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(12))
    assert all(frame.error is None and frame.rate == pytest.approx(10) for frame in frames)
    means = [float(frame.image.mean()) for frame in frames if frame.image is not None]
    np.testing.assert_allclose(means, np.arange(12) * 10, atol=4)


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4"])
def test_frames_of_a_video_carry_their_time(make_video: Callable[..., Path], name: str) -> None:
    times = [frame.time for frame in open_source(str(make_video(name)))]
    assert times == pytest.approx([index / 10 for index in range(12)], abs=1e-3)


def test_frames_of_a_video_are_rgb(make_video: Callable[..., Path]) -> None:
    frame = next(iter(open_source(str(make_video(colour=(255, 0, 0))))))
    assert frame.image is not None
    np.testing.assert_allclose(frame.image.mean((0, 1)), (255, 0, 0), atol=6)


def test_a_truncated_video_gives_its_frames_and_then_an_error(tmp_path: Path) -> None:
    path = tmp_path / "torn.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(40):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *frames, last = open_source(str(path))
    assert 5 < len(frames) < 36
    assert all(frame.image is not None for frame in frames)
    assert last.image is None
    assert last.error == f"{path}: ends after {len(frames)} of 40 frames; is it cut off?"


@pytest.fixture
def damage(tmp_path: Path) -> Callable[..., Path]:
    """Writes an .avi of 40 noisy frames, of which some are zeroed, and the end is cut off before a frame."""

    def write(zeroed: Sequence[int] = (), cut: int | None = None) -> Path:
        path = tmp_path / "damaged.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
        rng = np.random.default_rng(0)
        for index in range(40):
            writer.write(rng.integers(0, 20, (48, 64, 3), np.uint8) + np.uint8(5 * index))
        writer.release()
        data = bytearray(path.read_bytes())
        chunks = [match.start() for match in re.finditer(rb"00dc(?=.{4}\xff\xd8)", data, re.DOTALL)]
        assert len(chunks) == 40
        for chunk in (chunks[index] for index in zeroed):
            size = int.from_bytes(data[chunk + 4 : chunk + 8], "little")
            data[chunk + 8 : chunk + 8 + size] = bytes(size)
        path.write_bytes(data if cut is None else data[: chunks[cut]])
        return path

    return write


@pytest.mark.parametrize("zeroed", [[20], [37], [38], [5, 6, 7, 30], list(range(10, 30))], ids=str)
def test_a_damaged_frame_is_an_error_and_the_others_are_read(damage: Callable[..., Path], zeroed: list[int]) -> None:
    path = damage(zeroed)
    frames = list(open_source(str(path)))
    assert [frame.index for frame in frames] == list(range(40))
    errors = {frame.index: frame.error for frame in frames if frame.image is None}
    assert errors == {index: f"{path}: frame {index} cannot be decoded; is the file damaged?" for index in zeroed}
    levels = {frame.index: frame.image.mean() - 9.5 for frame in frames if frame.image is not None}
    assert levels == {index: pytest.approx(5 * index, abs=3) for index in levels}


def test_of_a_stride_only_wanted_frames_that_are_damaged_are_errors(damage: Callable[..., Path]) -> None:
    frames = list(open_source(str(damage([8, 9, 12])), selection=Selection(stride=4)))
    assert [frame.index for frame in frames] == list(range(0, 40, 4))
    assert [frame.index for frame in frames if frame.error] == [8, 12]


@pytest.mark.parametrize("cut", [1, 20, 37, 39])
def test_every_frame_that_a_cut_video_lacks_is_reported(damage: Callable[..., Path], cut: int) -> None:
    path = damage(cut=cut)
    *frames, last = open_source(str(path))
    assert len(frames) in (cut - 1, cut)  # of the last one OpenCV may want to see what follows
    assert all(frame.error is None for frame in frames)
    assert last.error == f"{path}: ends after {len(frames)} of 40 frames; is it cut off?"


def test_a_damaged_video_is_resumed_behind_its_errors(damage: Callable[..., Path]) -> None:
    path = str(damage([5, 20]))
    source = open_source(path)
    source.skip(Done([(path, 10)]))
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(11, 40))
    assert [frame.index for frame in frames if frame.error] == [20]


@pytest.mark.parametrize("data", [b"", b"hello", b"\0" * 4096])
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_what_is_no_video_says_so(tmp_path: Path, data: bytes, suffix: str) -> None:
    (tmp_path / f"x{suffix}").write_bytes(data)
    with pytest.raises(
        InputError,
        match=rf"x\{suffix}: {'cannot be opened as a video .*; copy it again' if data else 'is empty .0 bytes.$'}",
    ):
        open_source(str(tmp_path / f"x{suffix}"))


def test_a_video_of_which_only_the_head_is_left_is_refused(make_video: Callable[..., Path]) -> None:
    path = make_video("clip.mp4")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match=r"clip\.mp4: cannot be opened as a video"):
        open_source(str(path))


def test_closing_ends_a_video_after_the_frame(make_video: Callable[..., Path]) -> None:
    source = open_source(str(make_video()))
    seen = []
    for frame in source:
        seen.append(frame)
        source.close()
    assert len(seen) == 1


def test_a_video_whose_name_is_not_utf8_does_not_kill_the_process(
    make_video: Callable[..., Path], undecodable: str, spawn: Callable[..., Any]
) -> None:
    path = make_video()
    path = path.rename(path.with_name(f"{undecodable}.avi"))
    code = (
        "import os, sys\nfrom stn_runtime import InputError\nfrom stn_runtime.sources.opening import open_source\n"
        "try: print(len(list(open_source(sys.argv[1]))))\nexcept InputError as error: print(ascii(str(error)))"
    )
    process = spawn(path, code=code)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert b"the name is not UTF-8" in out


def test_a_video_goes_on_behind_the_frames_that_are_done(make_video: Callable[..., Path]) -> None:
    path = str(make_video())
    everything, rest = list(open_source(path)), open_source(path)
    assert isinstance(rest, Video)
    rest.skip(Done([(path, 0), (path, 1)]))
    assert [(frame.index, frame.time) for frame in rest] == [(frame.index, frame.time) for frame in everything[2:]]
    assert len(everything) > 2
