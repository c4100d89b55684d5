"""Where annotated pictures go."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import InputError, Prediction
from stn_runtime.frames import Frame
from stn_runtime.images import read_image, write_image
from stn_runtime.records import Record
from stn_runtime.sinks import PictureFolder, VideoFile, open_saver

PREDICTION = Prediction("7", 0.9, (), (), np.empty((0, 0, 2), np.float32), None, {}, np.ones(1, np.float32))


def _picture(height: int = 300, width: int = 400, level: int = 128) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def _shown(
    image: NDArray[np.uint8] | None, source: str = "cam", root: str | None = None, rate: float | None = 12.0
) -> tuple[Frame, Record]:
    frame = Frame(source, 0, None, image, root=root, rate=rate)
    return frame, Record(source, 0, None, None if image is None else PREDICTION, "gone" if image is None else None)


def _frames(path: Path) -> list[NDArray[np.uint8]]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def test_the_tree_of_the_input_is_mirrored(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path / "new" / "out")
    for name in ("a/b/x.png", "a/x.png", "x.jpg"):
        assert folder.show(*_shown(_picture(), str(tmp_path / "in" / name), str(tmp_path / "in")))
    saved = sorted(path.relative_to(folder.folder).as_posix() for path in folder.folder.rglob("*") if path.is_file())
    assert saved == ["a/b/x.png", "a/x.png", "x.jpg"]
    assert read_image(folder.folder / "x.jpg").shape == (300, 400, 3)
    folder.close()


def test_a_single_picture_keeps_its_name(tmp_path: Path) -> None:
    PictureFolder(tmp_path / "out").show(*_shown(_picture(), "/somewhere/else/größe.png"))
    assert (tmp_path / "out" / "größe.png").is_file()


@pytest.mark.parametrize("name", ["x.gif", "x.pgm", "x", "x.jp2"])
def test_a_format_that_is_not_for_saving_becomes_png(tmp_path: Path, name: str) -> None:
    PictureFolder(tmp_path).show(*_shown(_picture(), name))
    assert read_image(tmp_path / f"{name}.png").shape == (300, 400, 3)


def test_a_frame_without_a_picture_is_not_saved(tmp_path: Path) -> None:
    assert PictureFolder(tmp_path).show(*_shown(None, "x.png"))
    assert not list(tmp_path.iterdir())


def test_the_source_is_not_overwritten(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", _picture(level=7))
    before = (tmp_path / "x.png").read_bytes()
    with pytest.raises(InputError, match=r"x\.png: --save would overwrite it; give another folder$"):
        PictureFolder(tmp_path).show(*_shown(_picture(), str(tmp_path / "x.png"), str(tmp_path)))
    assert (tmp_path / "x.png").read_bytes() == before


def test_the_source_is_not_overwritten_through_a_link(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", _picture(level=7))
    (tmp_path / "out").symlink_to(tmp_path)
    with pytest.raises(InputError, match="--save would overwrite it"):
        PictureFolder(tmp_path / "out").show(*_shown(_picture(), str(tmp_path / "x.png")))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/out: cannot be made a folder \(Not a directory\)$"):
        PictureFolder(tmp_path / "file" / "out")
    with pytest.raises(InputError, match=r"file: cannot be made a folder \(File exists\)$"):
        PictureFolder(tmp_path / "file")


@pytest.mark.parametrize("name", ["x.avi", "x.mp4", "X.AVI", "größe.mp4"])
@pytest.mark.parametrize("size", [(300, 400), (301, 403)], ids=str)
def test_a_video_is_written_and_readable_again(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    video = VideoFile(tmp_path / "new" / name, live=False)
    for level in (40, 120, 200):
        assert video.show(*_shown(_picture(*size, level)))
    video.show(*_shown(None))
    video.close()
    frames = _frames(tmp_path / "new" / name)
    assert len(frames) == 3
    assert abs(frames[0].shape[0] - size[0]) <= 1
    np.testing.assert_allclose([frame[200, 300].mean() for frame in frames], (40, 120, 200), atol=8)
    assert cv2.VideoCapture(str(tmp_path / "new" / name)).get(cv2.CAP_PROP_FPS) == pytest.approx(12)


def test_colours_of_a_video_are_kept(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "x.avi", live=False)
    video.show(*_shown(np.full((300, 400, 3), (255, 0, 0), np.uint8)))
    video.close()
    np.testing.assert_allclose(_frames(tmp_path / "x.avi")[0][200, 300], (0, 0, 255), atol=6)  # BGR


def test_a_source_that_does_not_say_its_rate_is_saved_at_25(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "x.avi", live=False)
    video.show(*_shown(_picture(), rate=None))
    video.close()
    assert cv2.VideoCapture(str(tmp_path / "x.avi")).get(cv2.CAP_PROP_FPS) == pytest.approx(25)


def test_a_change_of_size_starts_another_file(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "x.avi", live=False)
    for height in (300, 300, 480, 300):
        video.show(*_shown(_picture(height, 400)))
    video.close()
    counts = {path.name: [frame.shape[0] for frame in _frames(path)] for path in sorted(tmp_path.iterdir())}
    assert counts == {"x.avi": [300, 300], "x-2.avi": [480], "x-3.avi": [300]}


def test_a_video_that_opencv_cannot_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.avi").mkdir()
    with pytest.raises(InputError, match=r"x\.avi: OpenCV cannot write such a video; use \.mp4 or \.avi$"):
        VideoFile(tmp_path / "x.avi", live=False).show(*_shown(_picture()))


def test_a_video_whose_name_is_not_utf8_does_not_kill_the_process(
    tmp_path: Path, undecodable: str, spawn: Callable[..., Any]
) -> None:
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom stn_runtime import InputError, Prediction\n"
        "from stn_runtime.records import Record\nfrom stn_runtime.sinks import VideoFile\n"
        "from stn_runtime.frames import Frame\n"
        "seen = Prediction('7', 1, (), (), np.empty((0, 0, 2)), None, {}, np.ones(1))\n"
        "try: VideoFile(Path(sys.argv[1]), False).show("
        "Frame('c', 0, None, np.zeros((300, 400), np.uint8)), Record('c', 0, None, seen))\n"
        "except InputError as error: print(ascii(str(error)))"
    )
    process = spawn(tmp_path / f"{undecodable}.avi", code=code)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


def test_a_video_without_frames_is_closed_in_peace(tmp_path: Path) -> None:
    VideoFile(tmp_path / "x.avi", live=False).close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".MKV"])
def test_a_video_for_pictures_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=rf"x\{suffix}: pictures are saved in a folder, not in a video; give --save"):
        open_saver(tmp_path / f"x{suffix}", ["photos"], has_time=False, live=False)


def test_save_means_a_folder_for_pictures(tmp_path: Path) -> None:
    saver = open_saver(tmp_path / "out", ["photos"], has_time=False, live=False)
    saver.show(*_shown(_picture(), "photos/x.png", "photos"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("folder/clip.avi", "clip.mp4"),
        ("camera 0", "camera_0.mp4"),
        ("http://host/a b?c=d.mjpg", "host_a_b_c_d.mjpg.mp4"),
        ("rtsp://host:554/", "host_554.mp4"),
    ],
)
def test_a_folder_for_a_video_gets_a_file_named_after_the_source(tmp_path: Path, source: str, name: str) -> None:
    saver = open_saver(tmp_path, [source], has_time=True, live=False)
    frame, record = _shown(_picture(), source)
    saver.show(replace(frame, time=0.0), record)
    saver.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_video_that_is_read_is_not_overwritten(make_video: Callable[..., Path]) -> None:
    path = make_video("clip.mp4")
    told = r"clip\.mp4: --save would overwrite the source; give another name$"
    with pytest.raises(InputError, match=told):
        open_saver(path, [str(path)], has_time=True, live=False)
    frame, record = _shown(_picture(), str(path))
    with pytest.raises(InputError, match=told):  # the folder means clip.mp4 in it
        open_saver(path.parent, [str(path)], has_time=True, live=False).show(replace(frame, time=0.0), record)
