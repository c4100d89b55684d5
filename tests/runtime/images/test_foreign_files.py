"""What other programs leave in folders is no picture of the user's, wherever files are listed."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from stn_runtime import InputError
from stn_runtime.images.foreign_files import is_foreign
from stn_runtime.images.writing import write_image
from stn_runtime.sources.frame import Selection
from stn_runtime.sources.opening import open_source
from stn_runtime.sources.result_folders import MARK, ResultsFolder

OWN = ("IMG.png", "a/IMG.png", ".hidden.png", "_x.png", "thumbs/IMG.png", "macosx.png")
FOREIGN = (
    "._IMG.png",
    "a/._IMG.png",
    "@eaDir/IMG.png/SYNOPHOTO_THUMB_M.png",
    "a/@eaDir/x.png",
    ".thumbnails/normal/1.png",
    "__MACOSX/a/._IMG.png",
    "__MACOSX/IMG.png",
    ".@__thumb/s100IMG.png",
    "#recycle/IMG.png",
    "$RECYCLE.BIN/S-1/IMG.png",
    ".Trash-1000/files/IMG.png",
    "lost+found/1.png",
    "Catalog Previews.lrdata/0/1.png",
    ".ipynb_checkpoints/IMG-checkpoint.png",
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of six pictures, and fourteen that are not the user's."""
    for name in (*OWN, *FOREIGN):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.zeros((4, 4, 3), np.uint8))
    return tmp_path / "photos"


def names(photos: Path, source: str, selection: Selection = Selection()) -> set[str]:  # noqa: B008  (frozen)
    return {str(Path(frame.source).relative_to(photos)) for frame in open_source(source, selection=selection)}


@pytest.mark.parametrize(
    "name", ["._a", "@EADIR", "@eaDir", "__MACOSX", "Thumbs.db", ".DS_Store", ".Trash-0", "$Recycle.Bin"]
)
def test_names_of_other_programs_are_known_however_they_are_spelt(name: str) -> None:
    assert is_foreign(name)


@pytest.mark.parametrize(
    "name", [".a.jpg", "_a.jpg", "a._b.jpg", "eadir", "macosx", "thumbnails", "trash", "git", "..", ""]
)
def test_a_name_that_only_resembles_one_is_the_users(name: str) -> None:
    assert not is_foreign(name)


def test_a_folder_gives_the_users_pictures_and_says_once_how_many_others_there_are(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_source(str(photos))
    assert source.total == len(OWN)
    assert {str(Path(frame.source).relative_to(photos)) for frame in source} == set(OWN)
    [message] = caplog.messages
    assert message.startswith(f"{photos}: {len(FOREIGN)} files that other programs left are passed over (such as ")
    assert message.endswith("); --all-files takes them")


def test_all_files_are_taken_when_that_is_wanted(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert names(photos, str(photos), Selection(all_files=True)) == {*OWN, *FOREIGN}
    assert not caplog.messages


def test_a_folder_of_such_files_alone_has_no_pictures(tmp_path: Path) -> None:
    write_image(tmp_path / "._a.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(
        InputError, match=r"1 file that another program left is passed over \(such as \._a\.png\); --all"
    ):
        open_source(str(tmp_path))


def test_a_pattern_gives_the_users_pictures(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert names(photos, f"{photos}/**/*.png") == {name for name in OWN if not name.startswith(".")}
    assert len(caplog.messages) == 1
    taken = names(photos, f"{photos}/**/*.png", Selection(all_files=True))
    assert "@eaDir/IMG.png/SYNOPHOTO_THUMB_M.png" in taken


@pytest.mark.parametrize("name", ["._IMG.png", "__MACOSX/IMG.png"])
def test_what_the_user_names_is_taken(photos: Path, name: str, tmp_path: Path) -> None:
    assert names(photos, str(photos / name)) == {name}
    (tmp_path / "list.txt").write_text(f"{photos / name}\n")
    assert names(photos, str(tmp_path / "list.txt")) == {name}


def test_a_folder_or_pattern_within_such_a_folder_is_taken(photos: Path) -> None:
    assert names(photos, str(photos / "@eaDir")) == {"@eaDir/IMG.png/SYNOPHOTO_THUMB_M.png"}
    assert names(photos, f"{photos}/@eaDir/*/*.png") == {"@eaDir/IMG.png/SYNOPHOTO_THUMB_M.png"}


def test_a_watched_folder_gives_the_users_pictures(photos: Path) -> None:
    source = open_source(str(photos), selection=Selection(watch=True))
    first = {str(Path(frame.source).relative_to(photos)) for frame in itertools.islice(source, len(OWN))}
    source.close()
    assert first == set(OWN)


def test_a_results_folder_is_empty_when_it_holds_only_what_a_desktop_left(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "Thumbs.db").touch()
    ResultsFolder(tmp_path)
    assert (tmp_path / MARK).exists()


def test_pictures_of_kinds_that_are_not_read_and_videos_in_a_folder_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "IMG").mkdir()
    for name in ("IMG/1.HEIC", "IMG/2.dng", "clip.mp4", "notes.txt", "._b.heic"):
        (tmp_path / name).touch()
    source = open_source(str(tmp_path))
    assert source.total == 1
    [message] = caplog.messages
    assert message.startswith(f"{tmp_path}: 3 files are of kinds not read from a folder (such as ")
    assert re.search(
        r"\((such as clip\.mp4|such as IMG.[12]\.\w+)\); convert pictures to JPEG or PNG, and name videos themselves$",
        message,
    )


def test_a_folder_of_nothing_but_such_pictures_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "1.heic").touch()
    with pytest.raises(
        InputError, match=r"1 file is of a kind not read .* \(such as 1\.heic\); convert pictures to JPEG"
    ):
        open_source(str(tmp_path))
