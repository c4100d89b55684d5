"""Where annotated pictures go."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stn_runtime import InputError, Prediction
from stn_runtime.images.reading import read_image
from stn_runtime.images.writing import write_image
from stn_runtime.records.record import Record
from stn_runtime.sources.frame import Frame
from stn_runtime.sources.opening import open_source
from stn_runtime.sources.result_folders import MARK
from stn_runtime.sources.source import Source
from stn_runtime.views.saving import Crops, PictureFolder, SaveFolder, open_saver
from stn_runtime.views.video_file import VideoFile

PREDICTION = Prediction("7", 0.9, (), (), np.empty((0, 0, 2), np.float32), None, {}, np.ones(1, np.float32))


class Gives(Source):
    """A source of no frames, of so many videos or cameras."""

    def __init__(self, streams: int, live: bool = False) -> None:
        self.streams, self.live = streams, live

    def __iter__(self) -> Iterator[Frame]:
        return iter(())


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
    assert _saved(folder.folder) == ["a/b/x.png", "a/x.png", "x.jpg"]
    assert read_image(folder.folder / "x.jpg").shape == (300, 400, 3)
    folder.close()


def test_a_single_picture_keeps_its_name(tmp_path: Path) -> None:
    PictureFolder(tmp_path / "out").show(*_shown(_picture(), "/somewhere/else/größe.png", "/somewhere/else"))
    assert (tmp_path / "out" / "größe.png").is_file()


@pytest.mark.parametrize("name", ["x.gif", "x.pgm", "x", "x.jp2"])
def test_a_format_that_is_not_for_saving_becomes_png(tmp_path: Path, name: str) -> None:
    PictureFolder(tmp_path).show(*_shown(_picture(), name))
    assert read_image(tmp_path / f"{name}.png").shape == (300, 400, 3)


def test_a_frame_without_a_picture_is_not_saved(tmp_path: Path) -> None:
    assert PictureFolder(tmp_path).show(*_shown(None, "x.png"))
    assert not _saved(tmp_path)


def test_the_source_is_not_overwritten(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", _picture(level=7))
    before = (tmp_path / "x.png").read_bytes()
    with pytest.raises(InputError, match=r"x\.png: --save would overwrite the source; give another place$"):
        PictureFolder(tmp_path).show(*_shown(_picture(), str(tmp_path / "x.png"), str(tmp_path)))
    assert (tmp_path / "x.png").read_bytes() == before


def test_the_source_is_not_overwritten_through_a_link(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", _picture(level=7))
    (tmp_path / "out").symlink_to(tmp_path)
    with pytest.raises(InputError, match="--save would overwrite the source"):
        PictureFolder(tmp_path / "out").show(*_shown(_picture(), str(tmp_path / "x.png"), str(tmp_path)))


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
    with pytest.raises(
        InputError, match=r"x\.avi: OpenCV cannot write such a video; use \.mp4, \.mkv, \.avi or \.webm$"
    ):
        VideoFile(tmp_path / "x.avi", live=False).show(*_shown(_picture()))


def test_a_video_whose_name_is_not_utf8_does_not_kill_the_process(
    tmp_path: Path, undecodable: str, spawn: Callable[..., Any]
) -> None:
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom stn_runtime import InputError, Prediction\n"
        "from stn_runtime.records.record import Record\nfrom stn_runtime.views.video_file import VideoFile\n"
        "from stn_runtime.sources.frame import Frame\n"
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
    assert not _saved(tmp_path)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".MKV"])
def test_a_video_for_pictures_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=rf"x\{suffix}: pictures are saved in a folder, not in a video; give --save"):
        open_saver(tmp_path / f"x{suffix}", ["photos"], Gives(streams=0))


def test_save_means_a_folder_for_pictures(tmp_path: Path) -> None:
    saver = open_saver(tmp_path / "out", ["photos"], Gives(streams=0))
    saver.show(*_shown(_picture(), "photos/x.png", "photos"))
    assert _saved(tmp_path / "out") == ["x.png"]


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
    saver = open_saver(tmp_path, [source], Gives(streams=1))
    frame, record = _shown(_picture(), source)
    saver.show(replace(frame, time=0.0), record)
    saver.close()
    assert _saved(tmp_path) == [name]


def test_the_video_that_is_read_is_not_overwritten(make_video: Callable[..., Path]) -> None:
    path = make_video("clip.mp4")
    told = r"clip\.mp4: --save would overwrite the source; give another place$"
    with pytest.raises(InputError, match=told):
        open_saver(path, [str(path)], Gives(streams=1))
    frame, record = _shown(_picture(), str(path))
    with pytest.raises(InputError, match=told):  # the folder means clip.mp4 in it
        open_saver(path.parent, [str(path)], Gives(streams=1)).show(replace(frame, time=0.0), record)


# --- live video keeps the camera's time


def _at(moment: float, level: int = 128, source: str = "camera 0", rate: float = 10.0) -> tuple[Frame, Record]:
    frame, record = _shown(_picture(level=level), source, rate=rate)
    return replace(frame, time=moment), record


def _played(path: Path, moments: list[float], *, live: bool = True) -> int:
    """How many frames a video has of a camera's frames at these moments, at 10 frames a second."""
    video = VideoFile(path, live)
    for moment in moments:
        video.show(*_at(moment))
    video.close()
    return len(_frames(path))


@pytest.mark.parametrize("start", [0.0, 1_700_000_000.0])
@pytest.mark.parametrize(
    ("moments", "frames"),
    [
        ([0.0], 1),
        ([0.0, 0.1, 0.2], 3),
        ([0.0, 0.1, 0.2, 1.0], 11),  # 0.0, 0.1, ... 1.0
        ([0.0, 0.1, 0.2, 1.0, 61.0], 12),  # a minute is not filled
        ([0.0, 60.0, 60.1, 60.4], 6),  # one; then 60.0, 60.1, ... 60.4
        ([0.0, 0.104, 0.196, 0.301], 4),  # of a camera that is not quite regular
    ],
)
def test_a_live_video_has_as_many_frames_as_time_went_by(
    tmp_path: Path, start: float, moments: list[float], frames: int
) -> None:
    assert _played(tmp_path / "x.avi", [start + moment for moment in moments]) == frames


def test_a_camera_that_is_quicker_than_it_says_does_not_make_a_video_longer(tmp_path: Path) -> None:
    moments = [1e9 + index / 30 for index in range(61)]  # two seconds
    assert abs(_played(tmp_path / "x.avi", moments) - 21) <= 1


def test_a_clock_that_is_put_back_does_not_stop_a_live_video(tmp_path: Path) -> None:
    moments = [1e9, 1e9 + 0.1, 1e9 - 3600, 1e9 - 3599.9, 1e9 - 3599.8]
    assert _played(tmp_path / "x.avi", moments) == 5


def test_a_video_file_keeps_its_frames_whatever_their_times(tmp_path: Path) -> None:
    assert _played(tmp_path / "x.avi", [0.0, 0.1, 0.1, 5.0, 0.3], live=False) == 5


def test_a_video_that_was_not_saved_whole_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = VideoFile(tmp_path / "x.avi", live=False)
    for _ in range(5):
        video.show(*_shown(_picture()))
    whole = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: whole(str(tmp_path / "gone.avi")))
    with pytest.raises(InputError, match=r"x\.avi: only 0 of 5 frames were saved; is the disk full\?$"):
        video.close()


def test_a_video_that_cannot_be_closed_does_not_spoil_those_of_other_cameras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = SaveFolder(tmp_path / "out", live=False)
    for index in range(20):
        for camera in ("camera 0", "camera 1", "camera 2"):
            frame, record = _shown(_picture())
            place = {"source": camera, "time": index / 10}
            saver.show(replace(frame, index=index, **place), replace(record, frame=index, **place))
    closed = VideoFile.close

    def fail_once(video: VideoFile) -> None:
        closed(video)
        if video.path.stem == "camera_1":
            raise InputError("camera_1.mp4: only 19 of 20 frames were saved; is the disk full?")

    monkeypatch.setattr(VideoFile, "close", fail_once)
    with pytest.raises(InputError, match=r"^camera_1\.mp4: only 19 of 20"):
        saver.close()
    assert {path.stem: len(_frames(path)) for path in (tmp_path / "out").glob("*.mp4")} == {
        f"camera_{number}": 20 for number in range(3)
    }


@pytest.mark.parametrize("keep", [False, True])
def test_a_run_that_goes_on_keeps_the_videos_that_are_there(tmp_path: Path, keep: bool) -> None:
    for count in (3, 1):
        video = VideoFile(tmp_path / "x.avi", live=False, keep=keep)
        for _ in range(count):
            video.show(*_shown(_picture()))
        video.close()
    assert {path.name: len(_frames(path)) for path in tmp_path.iterdir()} == (
        {"x.avi": 3, "x-2.avi": 1} if keep else {"x.avi": 1}
    )


def test_a_change_of_size_starts_a_file_that_overwrites_none(tmp_path: Path) -> None:
    (tmp_path / "x-2.avi").write_bytes(b"somebody's")
    video = VideoFile(tmp_path / "x.avi", live=False)
    for height in (300, 200):
        video.show(*_shown(_picture(height)))
    video.close()
    assert (tmp_path / "x-2.avi").read_bytes() == b"somebody's"
    assert [len(_frames(tmp_path / name)) for name in ("x.avi", "x-3.avi")] == [1, 1]


@pytest.mark.parametrize("name", ["out.jpg", "out.PNG"])
def test_a_picture_file_is_no_place_for_pictures(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "a.png", _picture())
    write_image(tmp_path / "b.png", _picture())
    for names in ([str(tmp_path)], [str(tmp_path / "*.png")], [str(tmp_path / "a.png"), str(tmp_path / "b.png")]):
        with pytest.raises(InputError, match=r"out\.\w+: is one picture, and the source is not; give --save FOLDER$"):
            open_saver(tmp_path / name, names, open_source(names))
    with pytest.raises(InputError, match=r"is one picture"):
        open_saver(tmp_path / name, ["0"], Gives(streams=1))


@pytest.mark.parametrize("name", ["out.jpg", "new/out.PNG"])
def test_one_picture_is_saved_under_the_name_that_is_wanted(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "a.png", _picture())
    saver = open_saver(tmp_path / name, [str(tmp_path / "a.png")], open_source(str(tmp_path / "a.png")))
    assert saver.show(*_shown(_picture(), str(tmp_path / "a.png")))
    assert read_image(tmp_path / name).shape == (300, 400, 3)


def test_a_picture_is_not_saved_over_itself_nor_in_a_format_that_is_not_written(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", _picture())
    source = open_source(str(tmp_path / "a.png"))
    with pytest.raises(InputError, match=r"a\.png: --save would overwrite the source"):
        open_saver(tmp_path / "a.png", [str(tmp_path / "a.png")], source)
    with pytest.raises(InputError, match=r"a\.gif: pictures of this kind are not written; take \.bmp, "):
        open_saver(tmp_path / "a.gif", [str(tmp_path / "a.png")], source)


class Encoders:
    """Plays an OpenCV that has some encoders only."""

    def __init__(self, *has: str) -> None:
        self._has, self.asked, self.fourcc = has, list[str](), cv2.VideoWriter.fourcc

    def __call__(self, path: str, code: int, *_: object) -> "Encoders":
        self.asked.append(code.to_bytes(4, "little").decode())
        return self

    def isOpened(self) -> bool:
        return self.asked[-1] in self._has

    def write(self, _: object) -> None:
        pass

    def release(self) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "has", "asked", "warnings"),
    [
        ("x.mp4", ("avc1", "mp4v"), ["avc1"], 0),
        ("x.mp4", ("mp4v",), ["avc1", "mp4v"], 1),
        ("x.mkv", ("mp4v",), ["avc1", "mp4v"], 1),
        ("x.avi", ("MJPG",), ["MJPG"], 0),
        ("x.webm", ("VP80",), ["VP80"], 0),
    ],
)
def test_a_video_is_one_that_browsers_play_where_opencv_can(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    has: tuple[str, ...],
    asked: list[str],
    warnings: int,
) -> None:
    encoders = Encoders(*has)
    monkeypatch.setattr(cv2, "VideoWriter", encoders)
    video = VideoFile(tmp_path / name, live=False)
    video.show(*_shown(_picture()))
    assert encoders.asked == asked
    assert len(caplog.messages) == warnings
    assert all("no H.264 encoder, so browsers will not play it" in message for message in caplog.messages)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm"])
def test_every_promised_kind_of_video_is_written(tmp_path: Path, suffix: str) -> None:
    video = VideoFile(tmp_path / f"x{suffix}", live=False)
    for _ in range(3):
        video.show(*_shown(_picture(64, 96)))
    video.close()
    assert len(_frames(tmp_path / f"x{suffix}")) == 3


def test_names_that_are_too_long_are_cut_and_told_apart(tmp_path: Path) -> None:
    stem = "写" * 84
    PictureFolder(tmp_path / "out").show(*_shown(_picture(), f"in/{stem}.gif", "in"))
    for end in "ab":
        _crop(Crops(tmp_path / "crops"), 300 * "x" + end, f"in/{stem}{end}.gif", "in")
    saved = [path.name for path in tmp_path.rglob("*.png")]
    assert len(set(saved)) == 3
    assert all(name.startswith(stem[:60]) for name in saved)
    assert sum(path.is_dir() for path in (tmp_path / "crops").iterdir()) == 2


def test_a_disk_that_fills_up_is_seen_while_a_video_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stn_runtime.views.video_file._CHECK_SECONDS", 0.0)
    video = VideoFile(tmp_path / "x.avi", live=True)
    video.show(*_at(1e9))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"x\.avi: the disk is full$"):
        video.show(*_at(1e9 + 0.1))


# --- a folder for everything


def test_each_camera_gets_a_video_of_its_own(tmp_path: Path) -> None:
    folder = SaveFolder(tmp_path / "out", live=True)
    for index in range(4):
        for source, level in (("camera 0", 40), ("rtsp://host/a", 120), ("rtsp://host/b", 200)):
            assert folder.show(*_at(1e9 + index / 10, level, source))
    folder.close()
    levels = {path.name: round(_frames(path)[0][200, 300].mean()) for path in (tmp_path / "out").glob("*.mp4")}
    assert {name: pytest.approx(level, abs=8) for name, level in levels.items()} == {
        "camera_0.mp4": 40,
        "host_a.mp4": 120,
        "host_b.mp4": 200,
    }


def test_videos_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder = SaveFolder(tmp_path, live=False)
    sources = ["a/clip.avi", "b/clip.avi", "c/clip.mp4", "d/clip-1.avi"]
    for count, source in enumerate(sources, 1):
        for index in range(count):
            folder.show(*_at(index / 10, source=source))
    folder.close()
    assert sorted(len(_frames(path)) for path in tmp_path.glob("*.mp4")) == [1, 2, 3, 4]


def test_pictures_and_videos_are_saved_side_by_side(tmp_path: Path) -> None:
    folder = SaveFolder(tmp_path, live=False)
    folder.show(*_shown(_picture(), "photos/a/x.png", "photos"))
    folder.show(*_at(0.0, source="clip.avi"))
    folder.show(*_shown(None, "photos/torn.png", "photos"))
    folder.close()
    assert _saved(tmp_path) == ["a/x.png", "clip.mp4"]


def test_without_a_folder_that_was_searched_the_whole_path_is_kept(tmp_path: Path) -> None:
    folder = SaveFolder(tmp_path / "out", live=False)
    for name in ("in/a/x.png", "in/b/x.png", "x.png", "./y.png", "in/../z.png", "../x.png", "/abs/x.png"):
        folder.show(*_shown(_picture(), name))
    assert _saved(tmp_path) == [
        f"out/{name}" for name in ("abs/x.png", "in/a/x.png", "in/b/x.png", "up/x.png", "x.png", "y.png", "z.png")
    ]


# --- crops


RECTIFIED = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)


def _crop(
    crops: Crops,
    label: str = "7",
    source: str = "in/x.png",
    root: str | None = "in",
    moment: float | None = None,
    index: int = 0,
    **doubt: Any,  # noqa: ANN401
) -> None:
    frame = Frame(source, index, moment, _picture(), root=root)
    prediction = replace(PREDICTION, label=label, rectified=RECTIFIED)
    assert crops.show(frame, Record(source, index, moment, prediction, **doubt))


def _saved(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != MARK
    )


def test_what_the_classifier_saw_is_saved_unchanged_in_a_folder_for_each_label(tmp_path: Path) -> None:
    crops = Crops(tmp_path / "new" / "crops")
    _crop(crops, "7", "in/x.png")
    _crop(crops, "stop sign", "in/y.png")
    assert _saved(crops.folder) == ["7/x.png.png", "stop sign/y.png.png"]
    np.testing.assert_array_equal(read_image(crops.folder / "7" / "x.png.png"), RECTIFIED)
    crops.close()


@pytest.mark.parametrize("doubt", [{"sure": False}, {"uncertain": "theta is unlike training"}])
def test_what_is_not_sure_is_kept_apart(tmp_path: Path, doubt: dict[str, Any]) -> None:
    _crop(Crops(tmp_path), **doubt)
    assert _saved(tmp_path) == ["_unsure/x.png.png"]


def test_a_frame_without_a_crop_is_not_saved(tmp_path: Path) -> None:
    crops = Crops(tmp_path)
    assert crops.show(*_shown(None, "x.png"))
    assert crops.show(*_shown(_picture(), "x.png"))  # of a model that gives no rectified picture
    assert not _saved(tmp_path)


LABELS = [
    "../x",
    "..",
    ".",
    "",
    "/",
    "/etc/x",
    "a/b",
    "a_b",
    "a\\b",
    "a:b",
    "+",
    "*",
    ".hidden",
    "x.",
    "x ",
    "x",
    "größe",
    "a\nb",
]


def test_labels_of_any_kind_have_a_folder_of_their_own_within_the_folder(tmp_path: Path) -> None:
    crops = Crops(tmp_path / "a" / "b" / "crops")
    for label in LABELS:
        _crop(crops, label)
    folders = [path.name for path in crops.folder.iterdir() if path.is_dir()]
    assert len(folders) == len(LABELS)
    assert _saved(tmp_path) == sorted(f"a/b/crops/{folder}/x.png.png" for folder in folders)
    for folder in folders:  # also for other systems, and for what leaves out hidden folders
        assert not set('/\\:*?"<>|\n') & set(folder)
        assert not folder.startswith(".")
        assert not folder.endswith((".", " "))


@pytest.mark.parametrize(
    ("source", "root", "moment", "name"),
    [
        ("in/a/b/x.png", "in", None, "a/b/x.png.png"),
        ("/somewhere/else/größe 1.jpg", "/somewhere/else", None, "größe 1.jpg.png"),
        ("/somewhere/else/größe 1.jpg", None, None, "somewhere/else/größe 1.jpg.png"),
        ("a:b\n.jpg", None, None, "a%3Ab%0A.jpg.png"),
        ("caf\udce9.jpg", None, None, "caf%E9.jpg.png"),
        ("dir/clip.avi", "dir", 0.5, "clip.avi-000500.png"),
        ("camera 0", None, 1e9, "camera 0-1000000000000.png"),
        ("rtsp://host:554/a?channel=1", None, 1e9, "host%3A554/a%3Fchannel%3D1-1000000000000.png"),
    ],
)
def test_a_crop_is_named_after_its_source_and_frame(
    tmp_path: Path, source: str, root: str | None, moment: float | None, name: str
) -> None:
    _crop(Crops(tmp_path), "7", source, root, moment, 12)
    assert _saved(tmp_path) == [f"7/{name}"]


def test_cameras_of_one_path_on_two_hosts_do_not_overwrite_each_other(tmp_path: Path) -> None:
    crops = Crops(tmp_path)
    for address in ("a/stream.mjpg", "b/stream.mjpg", "a_stream.mjpg"):
        _crop(crops, "7", f"http://{address}", None, 1e9)
    assert len(_saved(tmp_path)) == 3


@pytest.mark.parametrize("sources", [["a.mp4", "b.mp4"], ["camera 0", "camera 1"]])
@pytest.mark.parametrize("live", [False, True])
def test_several_sources_do_not_fit_one_video(tmp_path: Path, sources: list[str], live: bool) -> None:
    with pytest.raises(InputError, match=r"x\.mp4: 2 sources do not fit one video; give --save FOLDER$"):
        open_saver(tmp_path / "x.mp4", sources, Gives(2 * live, live))
