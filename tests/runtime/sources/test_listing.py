"""Folders, lists, and folders that are watched."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stn_runtime import InputError
from stn_runtime.sources.frame import Frame, Selection
from stn_runtime.sources.image_files import ImageFiles
from stn_runtime.sources.listing import Folder, ListedFiles
from stn_runtime.sources.result_folders import MARK
from tests.support.image_files import encode_level, level_of, write_levels
from tests.support.waiting import HANG, until

# --- folders


@pytest.mark.parametrize(
    "names",
    [
        ("b.png", "a/c.png", "a/b/d.png", "a.png", "a-b/x.png", "aa/x.png", "a b/x.png"),
        ("Z.png", "a.png", "É.png", "10.png", "9.png", "写.png", ".hidden.png", "A/x.png"),
    ],
)
def test_a_folder_is_in_the_order_of_sorted_paths(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(Folder(tmp_path)) == sorted(tmp_path / name for name in names)


def test_a_folder_gives_what_is_named_like_a_picture_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPEG", "c.txt", "png", "d.png.part", "e.mp4", ".png"):
        (tmp_path / name).touch()
    assert [path.name for path in Folder(tmp_path)] == ["a.png", "b.JPEG"]


def test_a_folder_named_like_a_picture_is_searched(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    (tmp_path / "x.png" / "y.png").touch()
    assert list(Folder(tmp_path)) == [tmp_path / "x.png" / "y.png"]


def test_links_to_folders_are_not_followed_and_links_to_pictures_are_read(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png").touch()
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    (root / "elsewhere").symlink_to(tmp_path / "out")
    (root / "sub" / "round").symlink_to(root)
    (root / "sub" / "me").symlink_to("me")
    (root / "y.png").symlink_to(tmp_path / "out" / "x.png")
    assert list(Folder(root)) == [root / "y.png"]


def test_a_folder_that_is_a_link_itself_is_searched(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.png").touch()
    (tmp_path / "link").symlink_to("real")
    assert list(Folder(tmp_path / "link")) == [tmp_path / "link" / "x.png"]


def test_a_folder_is_listed_only_as_far_as_it_is_gone_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").touch()
    listed, scandir = [], os.scandir

    def counted(path: Any) -> Any:  # noqa: ANN401
        listed.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    paths = iter(Folder(tmp_path))
    assert next(paths) == tmp_path / "a" / "x.png"
    assert listed == [tmp_path.name, "a"]
    next(paths)
    assert listed == [tmp_path.name, "a", "b"]


def test_a_folder_can_be_gone_through_again_and_shows_what_is_there_then(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    folder = Folder(tmp_path)
    assert len(list(folder)) == 1
    (tmp_path / "b.png").touch()
    assert [path.name for path in folder] == ["a.png", "b.png"]


def test_folders_that_hold_results_are_not_searched(tmp_path: Path) -> None:
    for name in ("a/x.png", "out/x.png", f"out/{MARK}", "a/out/x.png", f"a/out/b/{MARK}", "a/out/b/x.png", "z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = Folder(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in folder] == ["a/out/x.png", "a/x.png", "z.png"]
    assert folder.count == 3
    assert [path.name for path in Folder(tmp_path / "out")] == ["x.png"]  # when it is named


def test_a_folder_below_that_cannot_be_listed_is_an_error_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/x.png", "b/lost/y.png", "b/z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encode_level(1))
    listed = os.scandir

    def scandir(path: str) -> Any:  # noqa: ANN401
        if path == str(tmp_path / "b" / "lost"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    folder = Folder(tmp_path)
    source = ImageFiles(folder, tmp_path, count=lambda: folder.count)
    assert source.total == 3
    first, second, third = source
    assert (first.error, third.error) == (None, None)
    assert second.source == str(tmp_path / "b" / "lost")
    assert second.error is not None
    assert second.error.startswith(f"{tmp_path}/b/lost: cannot be read (")


def test_a_tree_deeper_than_python_may_recurse_is_gone_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*"d" * 150)
    deep.mkdir(parents=True)
    (deep / "x.png").touch()
    here, frame = 0, sys._getframe()
    while frame:
        here, frame = here + 1, frame.f_back  # type: ignore[assignment]
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(here + 100)
        found = list(Folder(tmp_path))
    finally:
        sys.setrecursionlimit(limit)
    assert found == [deep / "x.png"]


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: the folder cannot be listed \(No such file or directory\)$"):
        list(Folder(tmp_path / "gone"))


# --- lists


def test_a_mark_of_utf8_at_the_beginning_of_a_list_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert _listed(tmp_path, b"\xef\xbb\xbfa.png\nb.png\n") == [b"a.png", b"b.png"]


def _listed(tmp_path: Path, data: bytes) -> list[bytes]:
    (tmp_path / "list.txt").write_bytes(data)
    return [os.fsencode(path) for path in ListedFiles(tmp_path / "list.txt")]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a.png", [b"a.png"]),
        (b"a.png\nb.png\n", [b"a.png", b"b.png"]),
        (b"a.png\n\n \nb.png", [b"a.png", b"b.png"]),
        (b"a.png\r\nb.png\r\n\r\n", [b"a.png", b"b.png"]),
        (b"a.png\0b.png\0", [b"a.png", b"b.png"]),
        (b"a\nb.png\0c\r\0", [b"a\nb.png", b"c\r"]),
        (b"\0\0a.png", [b"a.png"]),
        (b" a b.png \nsub/c.png", [b" a b.png ", b"sub/c.png"]),
        (
            b"caf\xe9.png\n\xff\xfe.png\ngr\xc3\xb6\xc3\x9fe.png",
            [b"caf\xe9.png", b"\xff\xfe.png", b"gr\xc3\xb6\xc3\x9fe.png"],
        ),
    ],
)
def test_a_list_has_a_path_a_line_or_between_nuls(tmp_path: Path, data: bytes, names: list[bytes]) -> None:
    assert _listed(tmp_path, data) == names


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
@pytest.mark.parametrize("most", [1, 2, 3, 7, 1000])
def test_a_list_is_the_same_however_it_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: bytes, most: int
) -> None:
    read = os.read
    monkeypatch.setattr("stn_runtime.sources.listing.os.read", lambda number, _count: read(number, most))
    names = [b"%d/caf\xe9 %d.png" % (index, index) for index in range(20)]
    assert _listed(tmp_path, separator.join(names)) == names


def test_a_list_longer_than_a_reading_loses_no_line(tmp_path: Path) -> None:
    names = [b"%06d.png" % index for index in range(20_000)]  # 220 kB
    assert _listed(tmp_path, b"\n".join(names)) == names


def test_a_list_can_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.png\nb.png\n")
    listed = ListedFiles(tmp_path / "list.txt")
    assert list(listed) == list(listed) == [Path("a.png"), Path("b.png")]


def test_a_list_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.txt: the list cannot be read \(.*No such file"):
        list(ListedFiles(tmp_path / "gone.txt"))


def test_a_list_that_is_left_early_is_closed(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.png\nb.png\n")
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        paths = iter(ListedFiles(tmp_path / "list.txt"))
        next(paths)
        paths.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/dev/fd")) == before


def test_a_name_on_standard_input_is_given_before_the_next_is_there(piped: int) -> None:
    paths = iter(ListedFiles(None))
    for index in range(3):
        os.write(piped, b"%d.png\n" % index)
        assert next(paths) == Path(f"{index}.png")
    os.write(piped, b"last.png")  # without its line end
    os.close(piped)
    assert list(paths) == [Path("last.png")]


def test_pictures_listed_on_standard_input_are_read_before_the_list_has_ended(tmp_path: Path, piped: int) -> None:
    frames = iter(ImageFiles(ListedFiles(None)))
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(encode_level(10 * index))
        os.write(piped, os.fsencode(tmp_path / f"{index}.png") + b"\n")
        assert level_of(next(frames)) == 10 * index
    os.close(piped)
    assert list(frames) == []


def test_a_list_that_comes_slowly_does_not_hold_closing_up(piped: int) -> None:
    source = ImageFiles(ListedFiles(None))
    threading.Timer(0.2, source.close).start()
    began = time.monotonic()
    assert list(source) == []
    assert time.monotonic() - began < HANG


def test_without_standard_input_a_list_on_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as in a process that was started with it closed
    with pytest.raises(InputError, match=r"^standard input: the list cannot be read"):
        list(ListedFiles(None))


# --- watching


class Watched:
    """Reads a watched folder on a thread and keeps the frames."""

    def __init__(self, folder: Path) -> None:
        self.source = ImageFiles(Folder(folder), folder, Selection(watch=True))
        self.frames: list[Frame] = []
        self.thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        for frame in self.source:
            self.frames.append(frame)

    def levels(self) -> list[tuple[str, int | None]]:
        return [(Path(f.source).name, None if f.image is None else int(f.image[0, 0])) for f in list(self.frames)]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Watched]]:
    monkeypatch.setattr("stn_runtime.sources.watching.SCAN_SECONDS", 0.05)
    monkeypatch.setattr("stn_runtime.sources.watching._SETTLED_SECONDS", 0.3)
    started: list[Watched] = []

    def start(folder: Path) -> Watched:
        watched = Watched(folder)
        started.append(watched)
        watched.thread.start()
        return watched

    yield start
    for watched in started:
        watched.source.close()
        watched.thread.join(HANG)
        assert not watched.thread.is_alive()


def test_a_watched_folder_gives_what_is_there_and_then_what_is_new(
    tmp_path: Path, watch: Callable[[Path], Watched]
) -> None:
    write_levels(tmp_path, 2)
    watched = watch(tmp_path)
    assert watched.source.total is None
    until(lambda: len(watched.frames) == 2)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "new.png").write_bytes(encode_level(77))
    until(lambda: len(watched.frames) == 3)
    time.sleep(0.3)  # several looks at an unchanged folder
    assert watched.levels() == [("0000.png", 0), ("0001.png", 1), ("new.png", 77)]


@pytest.mark.parametrize("begun", ["before", "after"])
def test_a_file_that_is_still_written_is_read_once_and_whole(
    tmp_path: Path, watch: Callable[[Path], Watched], monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    monkeypatch.setattr("stn_runtime.sources.watching.SCAN_SECONDS", 0.2)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    done, data = cv2.imencode(".png", noise)
    assert done
    (tmp_path / "old.png").write_bytes(encode_level(1))
    os.utime(tmp_path / "old.png", (1, 1))
    pieces = [piece.tobytes() for piece in np.array_split(data, 20)]
    with (tmp_path / "slow.png").open("wb", buffering=0) if begun == "before" else contextlib.nullcontext() as stream:
        watched = watch(tmp_path)
        until(lambda: watched.frames)
        stream = stream or (tmp_path / "slow.png").open("wb", buffering=0)
        for piece in pieces:
            stream.write(piece)
            time.sleep(0.04)  # several in each look
        stream.close()
    until(lambda: len(watched.frames) > 1)
    time.sleep(0.5)
    _, frame = watched.frames
    assert frame.image is not None, frame.error
    np.testing.assert_array_equal(frame.image, noise)


def test_a_file_that_is_rewritten_is_read_again(tmp_path: Path, watch: Callable[[Path], Watched]) -> None:
    (tmp_path / "x.png").write_bytes(encode_level(1))
    watched = watch(tmp_path)
    until(lambda: len(watched.frames) == 1)
    (tmp_path / "part").write_bytes(encode_level(2))
    (tmp_path / "part").replace(tmp_path / "x.png")
    until(lambda: len(watched.frames) == 2)
    assert watched.levels() == [("x.png", 1), ("x.png", 2)]


def test_a_file_that_is_gone_before_it_is_whole_is_forgotten(tmp_path: Path, watch: Callable[[Path], Watched]) -> None:
    write_levels(tmp_path, 1)
    watched = watch(tmp_path)
    until(lambda: watched.frames)
    (tmp_path / "a.png").write_bytes(encode_level(1))
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(encode_level(2))
    until(lambda: len(watched.frames) == 2)
    assert watched.levels() == [("0000.png", 0), ("b.png", 2)]


def test_a_watched_folder_may_vanish_for_a_while(
    tmp_path: Path, watch: Callable[[Path], Watched], caplog: pytest.LogCaptureFixture
) -> None:
    write_levels(tmp_path / "in", 2)
    watched = watch(tmp_path / "in")
    until(lambda: len(watched.frames) == 2)
    (tmp_path / "in").rename(tmp_path / "away")
    until(lambda: caplog.messages)
    time.sleep(0.3)
    (tmp_path / "away").rename(tmp_path / "in")
    (tmp_path / "in" / "new.png").write_bytes(encode_level(9))
    until(lambda: len(watched.frames) == 3)
    assert watched.levels()[2] == ("new.png", 9)
    told = f"{tmp_path / 'in'}: the folder cannot be listed (No such file or directory); waiting until it can be"
    assert caplog.messages == [told]


def test_a_file_with_a_time_in_the_future_is_read_too(tmp_path: Path, watch: Callable[[Path], Watched]) -> None:
    watched = watch(tmp_path)
    (tmp_path / "x.png").write_bytes(encode_level(5))
    os.utime(tmp_path / "x.png", (time.time() + 10_000,) * 2)
    until(lambda: watched.frames)
    assert watched.levels() == [("x.png", 5)]
