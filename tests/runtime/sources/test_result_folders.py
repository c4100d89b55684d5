"""Folders of results."""

from pathlib import Path

import pytest

from stn_runtime import InputError
from stn_runtime.sources.result_folders import MARK, ResultsFolder, check_place, is_marked


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_is_new_or_empty_is_marked_and_its_files_may_be_overwritten(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "a" / "out"
    if there:
        folder.mkdir(parents=True)
    ResultsFolder(folder)
    assert is_marked(folder)
    (folder / "x.png").touch()
    ResultsFolder(folder).check(folder / "x.png")


def test_in_a_folder_of_somebody_elses_only_files_of_this_run_are_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    results = ResultsFolder(tmp_path)
    assert not is_marked(tmp_path)
    with pytest.raises(InputError, match=r"x\.png: is there already, and not saved by 'stn run'; give an"):
        results.check(tmp_path / "x.png")
    results.check(tmp_path / "y.png")
    (tmp_path / "y.png").touch()
    results.check(tmp_path / "y.png")


def test_a_folder_that_cannot_be_marked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(InputError, match=r"out: cannot be written \(No space left on device\)$"):
        ResultsFolder(tmp_path / "out")


def test_results_do_not_go_where_pictures_are_read(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "x.png").touch()
    (tmp_path / "link").symlink_to("in")
    for place in (tmp_path / "in", tmp_path / "link", tmp_path / "in" / "sub" / ".."):
        with pytest.raises(InputError, match="is the source; save in another folder"):
            check_place(place, str(tmp_path / "in"))
    with pytest.raises(InputError, match="lies in the source and holds files already; save in an empty folder"):
        check_place(tmp_path / "link" / "sub", str(tmp_path / "in"))
    for place in (tmp_path / "in" / "new", tmp_path / "out", tmp_path):
        check_place(place, str(tmp_path / "in"))
    (tmp_path / "in" / "sub" / MARK).touch()
    check_place(tmp_path / "in" / "sub", str(tmp_path / "in"))
    check_place(tmp_path / "in", "0")
