"""Image files that are decoded ahead."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stn_runtime.images.reading import Decoded, ImageReadError
from stn_runtime.sources.done import Done
from stn_runtime.sources.frame import Selection
from stn_runtime.sources.image_files import ImageFiles
from stn_runtime.sources.listing import Folder, ListedFiles
from tests.support.image_files import encode_level, level_of, write_levels
from tests.support.waiting import HANG, until


@pytest.mark.parametrize(
    ("stride", "levels"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 2, 4, 6]), (3, [0, 3, 6]), (9, [0])]
)
def test_of_a_stride_every_nth_is_read_from_the_first(tmp_path: Path, stride: int, levels: list[int]) -> None:
    source = ImageFiles(write_levels(tmp_path, 7), selection=Selection(stride=stride))
    assert source.total == len(levels)
    assert [level_of(frame) for frame in source] == levels


@pytest.mark.parametrize("done", range(5))
def test_of_a_picture_that_is_listed_twice_only_the_records_that_are_there_are_left_out(
    tmp_path: Path, done: int
) -> None:
    first, second = write_levels(tmp_path, 2)
    listed = [first, first, second, first]
    source = ImageFiles(listed)
    source.skip(Done((str(path), 0) for path in listed[:done]))
    assert [frame.source for frame in source] == [str(path) for path in listed[done:]]


def test_files_that_are_done_count_for_the_stride(tmp_path: Path) -> None:
    paths = write_levels(tmp_path, 7)
    source = ImageFiles(paths, selection=Selection(stride=3))
    source.skip(Done([(str(paths[0]), 0)]))
    assert source.total == 2
    assert [level_of(frame) for frame in source] == [3, 6]


def test_a_loop_begins_again_until_it_is_closed(tmp_path: Path) -> None:
    source = ImageFiles(write_levels(tmp_path, 3), selection=Selection(loop=True))
    assert source.total is None
    levels = []
    for frame in source:
        levels.append(level_of(frame))
        if len(levels) == 8:
            source.close()
    assert levels == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_loop_reads_what_is_in_the_folder_by_then(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_level(1))
    source = ImageFiles(Folder(tmp_path), selection=Selection(loop=True))
    frames = iter(source)
    next(frames)
    (tmp_path / "b.part").write_bytes(encode_level(2))
    (tmp_path / "b.part").rename(tmp_path / "b.png")  # whole at once, however the reading threads are scheduled
    assert any(level_of(next(frames)) == 2 for _ in range(200))
    source.close()


@pytest.mark.parametrize("paths", [[], ["gone.png"]])
def test_a_loop_over_nothing_ends(paths: list[str], tmp_path: Path) -> None:
    source = ImageFiles([tmp_path / path for path in paths], selection=Selection(loop=True))
    source.skip(Done([(str(tmp_path / "gone.png"), 0)]))
    assert list(source) == []


def test_a_file_that_is_deleted_after_it_was_listed_is_an_error(tmp_path: Path) -> None:
    paths = write_levels(tmp_path, 3)
    folder = Folder(tmp_path)
    source = ImageFiles(folder, tmp_path, count=lambda: folder.count)
    assert source.total == 3
    paths[1].unlink()
    first, second, third = list(ImageFiles(paths, tmp_path))
    assert (level_of(first), level_of(third)) == (0, 2)
    assert second.image is None
    assert second.error == f"{paths[1]}: cannot be read (No such file or directory)"
    assert (second.source, second.root) == (str(paths[1]), str(tmp_path))


def test_reading_ahead_is_bounded_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_runtime.sources.image_files.usable_cpus", lambda: 2)
    taken = 0
    (path,) = write_levels(tmp_path, 1)

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    source = ImageFiles(endless())
    frames = iter(source)
    for given in range(1, 30):
        next(frames)
        time.sleep(0.005)
        assert taken - given <= 4 * 2 + 2  # of 4 a CPU; one is in the hand of either side
    source.close()


def _playing(
    monkeypatch: pytest.MonkeyPatch, sizes: Callable[[int], tuple[int, int]], limit: int
) -> tuple[Callable[[], int], Iterator[Path]]:
    """Let the i-th picture take sizes(i) bytes: at its peak, and decoded; return what is held, and endless paths."""
    lock, held = threading.Lock(), [0, 0]

    def read(path: Path, *_: object, reserve: Callable[[int], None], **__: object) -> Decoded:
        peak, kept = sizes(int(path.name))
        if peak < 0:
            raise ImageReadError(f"{path}: is torn")
        reserve(peak)
        with lock:
            held[0] += peak
            held[1] = max(held)
        time.sleep(0.001 * (int(path.name) % 3))
        with lock:
            held[0] -= peak
        return Decoded(np.full((1, kept), int(path.name) % 256, np.uint8), (1, kept))

    monkeypatch.setattr("stn_runtime.sources.image_files.usable_cpus", lambda: 4)
    monkeypatch.setattr("stn_runtime.sources.image_files._AHEAD_BYTES", limit)
    monkeypatch.setattr("stn_runtime.sources.image_files.read_reduced", read)
    return lambda: held[1], (Path(str(number)) for number in itertools.count())


def test_pictures_that_are_decoded_at_a_time_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    most, paths = _playing(monkeypatch, lambda _: (40_000, 20_000), 100_000)
    source = ImageFiles(paths)
    for given, frame in enumerate(source):
        assert frame.source == str(given)
        if given == 100:
            source.close()
    assert 40_000 < most() <= 100_000


def test_pictures_that_wait_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    _, paths = _playing(monkeypatch, lambda index: (taken.append(index), (40_000, 40_000))[1], 100_000)  # type: ignore[func-returns-value]
    source = ImageFiles(paths)
    for given, _frame in enumerate(source, 1):
        time.sleep(0.01)
        decoded = len(taken) - 5  # as many as there are threads may wait for memory
        assert decoded - given <= 2
        if given == 30:
            source.close()


def test_pictures_of_any_size_come_in_order_and_none_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    peaks = random.choice([-1, 0, 10, 60_000, 99_999, 100_000, 5_000_000], 300)
    _, paths = _playing(monkeypatch, lambda index: (int(peaks[index]), max(1, int(peaks[index]) // 2)), 100_000)
    frames = list(ImageFiles(itertools.islice(paths, 300)))
    assert [frame.source for frame in frames] == [str(index) for index in range(300)]
    assert [frame.error is not None for frame in frames] == (peaks < 0).tolist()


def test_closing_ends_readers_that_wait_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    _, paths = _playing(monkeypatch, lambda _: (90_000, 90_000), 100_000)
    source = ImageFiles(paths)
    frames = iter(source)
    next(frames)
    began = time.monotonic()
    source.close()
    assert list(frames) == []
    assert time.monotonic() - began < 5


def test_ready_tells_whether_the_next_picture_has_been_decoded(tmp_path: Path, piped: int) -> None:
    paths = write_levels(tmp_path, 2)
    source = ImageFiles(ListedFiles(None))
    frames = iter(source)
    os.write(piped, os.fsencode(paths[0]) + b"\n")
    next(frames)
    assert not source.ready(0.02)
    os.write(piped, os.fsencode(paths[1]) + b"\n")
    assert source.ready(HANG)
    assert level_of(next(frames)) == 1
    source.close()


def test_a_source_that_was_closed_gives_nothing(tmp_path: Path) -> None:
    source = ImageFiles(write_levels(tmp_path, 3))
    source.close()
    assert list(source) == []


def test_leaving_early_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    for _ in ImageFiles(write_levels(tmp_path, 30)):
        break
    until(lambda: set(threading.enumerate()) <= before)
