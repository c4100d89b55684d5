"""Folders, globs, videos, cameras and streams; cameras are played by an object with cv2.VideoCapture's methods."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stn_runtime import InputError, PreprocessSpec
from stn_runtime.images.writing import write_image
from stn_runtime.sources.done import Done
from stn_runtime.sources.frame import Selection
from stn_runtime.sources.image_files import ImageFiles
from stn_runtime.sources.opening import open_source
from stn_runtime.sources.result_folders import MARK


def _names(source: object, root: Path) -> list[str]:
    assert isinstance(source, ImageFiles)
    return [str(path.relative_to(root)) for path in source.paths]


def test_a_folder_is_searched_with_its_subfolders_and_sorted(folder_of_pictures: Path) -> None:
    source = open_source(str(folder_of_pictures))
    assert _names(source, folder_of_pictures) == ["a/b/d.PNG", "a/c.png", "b.png"]
    assert (source.live, source.total) == (False, 3)


def test_the_frames_of_a_folder_come_in_order_with_their_root(folder_of_pictures: Path) -> None:
    frames = list(open_source(str(folder_of_pictures)))
    assert [int(frame.image.mean()) for frame in frames if frame.image is not None] == [128, 255, 0]
    assert [(frame.index, frame.time, frame.root) for frame in frames] == [(0, None, str(folder_of_pictures))] * 3


def test_files_with_a_record_are_left_out(folder_of_pictures: Path) -> None:
    source = open_source(str(folder_of_pictures))
    assert isinstance(source, ImageFiles)
    source.skip(Done([(str(folder_of_pictures / "a" / "c.png"), 0)]))
    assert [Path(frame.source).name for frame in source] == ["d.PNG", "b.png"]
    assert source.total == 2


def test_jpegs_are_reduced_only_when_asked_and_say_their_whole_size(tmp_path: Path) -> None:
    write_image(tmp_path / "x.jpg", np.full((448, 640, 3), 90, np.uint8))
    [whole] = list(ImageFiles([tmp_path / "x.jpg"]))
    source = ImageFiles([tmp_path / "x.jpg"])
    source.reduce_for(PreprocessSpec(56, 56, 1))
    [reduced] = list(source)
    assert whole.image is not None
    assert reduced.image is not None
    assert (whole.image.shape, reduced.image.shape) == ((448, 640, 3), (112, 160))
    assert (whole.size, reduced.size) == ((448, 640), (448, 640))


def test_a_large_folder_keeps_its_order_while_it_is_read_ahead(tmp_path: Path) -> None:
    sizes = [1000 if index % 7 == 0 else 2 for index in range(60)]  # slow ones between quick ones
    for index, size in enumerate(sizes):
        write_image(tmp_path / f"{index:03}.png", np.full((size, size), index, np.uint8))
    assert [frame.image[0, 0] for frame in open_source(str(tmp_path)) if frame.image is not None] == list(range(60))


def test_a_glob_is_sorted_and_its_root_is_the_common_folder(folder_of_pictures: Path) -> None:
    source = open_source(str(folder_of_pictures / "**" / "*.png"))
    assert _names(source, folder_of_pictures) == ["a/c.png", "b.png"]
    assert isinstance(source, ImageFiles)
    assert source.root == folder_of_pictures


def test_a_relative_glob_finds_files(folder_of_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder_of_pictures)
    assert [frame.source for frame in open_source("*.png")] == ["b.png"]


def test_a_file_with_brackets_in_its_name_is_not_a_pattern(tmp_path: Path) -> None:
    write_image(tmp_path / "photo[1].png", np.full((2, 2), 7, np.uint8))
    assert _names(open_source(str(tmp_path / "photo[1].png")), tmp_path) == ["photo[1].png"]


def test_a_single_file_is_read_whatever_its_ending(tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", np.full((2, 2), 7, np.uint8))
    path = (tmp_path / "photo.png").rename(tmp_path / "photo")
    (frame,) = open_source(str(path))
    assert frame.image is not None
    assert frame.root == str(tmp_path)


def test_an_unreadable_picture_is_a_frame_with_an_error(folder_of_pictures: Path) -> None:
    (folder_of_pictures / "a" / "bad.jpg").write_bytes(b"nothing")
    frames = list(open_source(str(folder_of_pictures)))
    assert [frame.error is None for frame in frames] == [True, False, True, True]
    assert frames[1].image is None
    assert frames[1].error == f"{frames[1].source}: cannot be decoded as an image (7 bytes)"


def test_a_folder_without_pictures_says_what_it_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r": has no image files \(.*\.jpg.*\.png"):
        open_source(str(tmp_path))


def test_a_glob_that_matches_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\*\.jpg: the pattern matches no file$"):
        open_source(str(tmp_path / "*.jpg"))


@pytest.mark.parametrize("name", ["gone.jpg", "gone.mp4", "gone", "a\0b"])
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: no such file or folder; a camera is named by its number"):
        open_source(str(tmp_path / name))


def test_a_name_of_any_length_is_one_sentence() -> None:
    with pytest.raises(InputError, match="no such file"):
        open_source("p" * 5000)


def test_an_empty_name_is_not_the_current_folder(folder_of_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder_of_pictures)
    with pytest.raises(InputError, match=r"empty|no such file"):
        open_source("")


def test_a_pattern_may_match_pictures_and_videos(folder_of_pictures: Path, make_video: Callable[..., Path]) -> None:
    make_video("clip.avi", 2).rename(folder_of_pictures / "clip.avi")
    (folder_of_pictures / "torn.mp4").write_bytes(b"no video")
    frames = list(open_source(f"{folder_of_pictures}/*.[pam]*"))
    names = [(Path(frame.source).name, frame.index, frame.error is None) for frame in frames]
    assert names == [("b.png", 0, True), ("clip.avi", 0, True), ("clip.avi", 1, True), ("torn.mp4", 0, False)]
    with pytest.raises(InputError, match="--loop takes pictures, or one video"):
        open_source(f"{folder_of_pictures}/*.[pam]*", selection=Selection(loop=True))


def test_of_a_pattern_results_below_what_it_names_are_left_out(folder_of_pictures: Path) -> None:
    (folder_of_pictures / "a" / MARK).touch()
    found = [frame.source for frame in open_source(f"{folder_of_pictures}/**/*.*")]
    assert found == [str(folder_of_pictures / "b.png"), str(folder_of_pictures / "notes.txt")]
    assert len(list(open_source(f"{folder_of_pictures}/a/*.png"))) == 1


def test_videos_have_time_and_pictures_have_none(folder_of_pictures: Path, make_video: Callable[..., Path]) -> None:
    first, second = str(make_video("a.avi", 2)), str(make_video("b.avi", 2))
    sources = (first, [first, second], str(folder_of_pictures), [first, str(folder_of_pictures)])
    assert [open_source(source).timed for source in sources] == [True, True, False, False]


def test_of_several_videos_one_that_is_damaged_is_a_record(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    torn, *rest = open_source([str(tmp_path / "torn.mp4"), str(make_video("clip.avi", 2))])
    assert torn.error is not None
    assert torn.error.startswith(f"{tmp_path}/torn.mp4: cannot be opened as a video")
    assert [frame.error for frame in rest] == [None, None]


def test_a_folder_named_like_a_number_is_not_taken_for_a_camera(
    folder_of_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of_pictures.rename(tmp_path / "2024")
    with pytest.raises(
        InputError, match=r"^2024: is no camera here; for the file or folder of that name write \./2024$"
    ):
        open_source("2024")
    assert len(list(open_source("./2024"))) == 3


def test_closing_ends_the_files_promptly(folder_of_pictures: Path) -> None:
    source = ImageFiles([folder_of_pictures / "b.png"] * 1000)
    frames = iter(source)
    next(frames)
    source.close()
    assert len(list(frames)) < 20
