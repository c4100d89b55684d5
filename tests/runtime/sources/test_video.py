"""Video files: every frame in order, with its time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stn_runtime import InputError
from stn_runtime.sources.done import Done
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


@pytest.mark.parametrize("data", [b"", b"hello", b"\0" * 4096])
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_what_is_no_video_says_so(tmp_path: Path, data: bytes, suffix: str) -> None:
    (tmp_path / f"x{suffix}").write_bytes(data)
    with pytest.raises(InputError, match=rf"x\{suffix}: cannot be opened as a video \(damaged, or"):
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
