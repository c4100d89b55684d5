"""Files are written as a whole or not at all, whatever happens in the middle."""

import os
import threading
from pathlib import Path

import pytest

from stn_runtime import InputError
from stn_runtime.machine.filesystem import make_folder, whole_file, write_whole


def test_a_file_holds_what_was_written_and_stands_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "größe.json", b"\x00new\n")
    assert (tmp_path / "größe.json").read_bytes() == b"\x00new\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["größe.json"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a longer, earlier content")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "signal"])
def test_a_block_that_fails_leaves_the_earlier_file_and_no_other(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"earlier")

    def write_half() -> None:
        with whole_file(tmp_path / "a") as partial:
            partial.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert (tmp_path / "a").read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_the_earlier_file_can_be_read_until_the_block_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"earlier")
    with whole_file(tmp_path / "a") as partial:
        partial.write_bytes(b"new")
        assert (tmp_path / "a").read_bytes() == b"earlier"
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path, stop = tmp_path / "a", threading.Event()
    contents = [bytes([fill]) * 300_000 for fill in (1, 2)]
    write_whole(path, contents[0])

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                write_whole(path, content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(path.read_bytes() in contents for _ in range(200))
    finally:
        stop.set()
        writer.join()


def test_the_temporary_file_is_this_process_own_and_beside_the_target(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a") as partial:
        assert partial == tmp_path / f"a.{os.getpid()}.partial"
        partial.touch()


def test_a_folder_in_the_place_of_the_file_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError, match="a"):
        write_whole(tmp_path / "a", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        write_whole(tmp_path / "missing" / "a", b"new")


def test_a_folder_is_made_with_those_above_it_and_may_be_there(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_place_of_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match=r"a/b: cannot be made a folder \(Not a directory\)$"):
        make_folder(tmp_path / "a" / "b")
