"""Where annotated pictures and crops go: folders and video files."""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ..errors import ImageReadError, InputError
from ..images.opencv import cv2, encodable
from ..images.preprocessing import Image
from ..images.reading import IMAGE_SUFFIXES
from ..images.writing import write_image
from ..machine.filesystem import make_folder
from ..records.record import Record
from ..sources.frame import Frame
from ..sources.result_folders import ResultsFolder
from ..sources.source import Source
from ..sources.video import VIDEO_SUFFIXES
from .overlay import draw
from .view import View

_FALLBACK_RATE = 25.0
_LONGEST_HOLD = 10.0  # seconds that a saved video stands still where a camera gave nothing
_WRITABLE = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_LEAST_ROOM, _LOOK_SECONDS = 1 << 20, 2.0  # bytes of the disk for a video, and between looks at it
_UNSURE = "_unsure"
_LONGEST_NAME = 240  # bytes of UTF-8; most file systems take 255


class PictureFolder(View):
    """Saves an annotated copy of each picture, in the tree of the input.

    Args:
        folder: Made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._results = ResultsFolder(folder)

    def show(self, frame: Frame, record: Record) -> bool:
        """Save one picture; always goes on.

        Raises:
            InputError: The copy would overwrite the picture itself, or cannot be written.
        """
        if frame.image is None or record.prediction is None:
            return True
        target = self.folder / _mirrored(frame)
        if target.suffix.lower() not in _WRITABLE:
            target = target.with_name(_fitting(target.name + ".png"))
        _refuse_overwriting(target, frame.source)
        self._results.check(target)
        _write(target, draw(frame.image, record.prediction, record.sure))
        return True


class VideoFile(View):
    """Saves annotated frames as a video; a change of size starts another file.

    Args:
        path: Of the video; its suffix says the format.
        live: Whether frames are dropped on their way: the video then plays as fast as it was filmed all the same.
        keep: Whether a file that is there already stays, and another name is taken.
    """

    def __init__(self, path: Path, live: bool, keep: bool = False) -> None:
        self.path, self._live, self._keep = path, live, keep
        self._writer: cv2.VideoWriter | None = None
        self._rate = _FALLBACK_RATE
        self._size = (0, 0)
        self._files = self._written = 0
        self._target, self._look_at = path, 0.0
        self._until = 0.0  # the moment, seconds, up to which frames have been written
        make_folder(path.parent)

    def show(self, frame: Frame, record: Record) -> bool:
        """Append one frame; always goes on.

        Raises:
            InputError: OpenCV cannot write such a video.
        """
        if frame.image is None or record.prediction is None:
            return True
        self._check_room()
        picture = draw(frame.image, record.prediction, record.sure)
        size = (picture.shape[1], picture.shape[0])
        if self._writer is None or size != self._size:
            self._writer = self._open(size, frame.rate)
        repeats = self._repeats(frame.time)
        self._written += repeats
        for _ in range(repeats):
            self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return True

    def close(self) -> None:
        """Finish the file; without this its index is missing.

        Raises:
            InputError: The file does not hold what was written, which OpenCV does not say.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        kept = max(0, round(cv2.VideoCapture(encodable(self._target)).get(cv2.CAP_PROP_FRAME_COUNT)))
        if kept < self._written:
            raise InputError(f"{self._target}: only {kept} of {self._written} frames were saved; is the disk full?")
        self._written = 0

    def _repeats(self, moment: float | None) -> int:
        """Return how often a frame is written so that the file, at its constant rate, keeps the camera's time."""
        if not self._live or moment is None:
            return 1
        if abs(moment - self._until) > _LONGEST_HOLD:  # a gap, or a clock that was put right
            self._until = moment
        repeats = max(0, round((moment - self._until) * self._rate) + 1)
        self._until += repeats / self._rate
        return repeats

    def _check_room(self) -> None:
        """Look at the disk now and then: OpenCV does not say that it is full."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            if shutil.disk_usage(self.path.parent).free < _LEAST_ROOM:
                raise InputError(f"{self._target}: the disk is full")

    def _next(self) -> Path:
        while True:
            self._files += 1
            path = self.path if self._files == 1 else self.path.with_stem(f"{self.path.stem}-{self._files}")
            # A number is ours to choose, the name is not.
            if not ((self._keep or self._files > 1) and path.exists()):
                return path

    def _open(self, size: tuple[int, int], rate: float | None) -> cv2.VideoWriter:
        self.close()
        self._rate = rate or _FALLBACK_RATE
        path = self._target = self._next()
        codec = "MJPG" if path.suffix.lower() == ".avi" else "mp4v"
        writer = cv2.VideoWriter(encodable(path), cv2.VideoWriter.fourcc(*codec), self._rate, size)
        self._size = size
        if not writer.isOpened():
            raise InputError(f"{path}: OpenCV cannot write such a video; use .mp4 or .avi")
        return writer


class SaveFolder(View):
    """Saves annotated pictures, and a video of each video and camera, in a folder.

    Args:
        folder: Made when it is missing.
        live: Whether frames are dropped on their way.
        keep: Whether videos that are there already stay.
    """

    def __init__(self, folder: Path, live: bool, keep: bool = False) -> None:
        self.folder, self._live, self._keep = folder, live, keep
        self._results = ResultsFolder(folder)
        self._pictures = PictureFolder(folder)
        self._videos: dict[str, VideoFile] = {}

    def show(self, frame: Frame, record: Record) -> bool:
        """Save one frame; always goes on.

        Raises:
            InputError: It would overwrite its source, or cannot be written.
        """
        if frame.time is None:
            return self._pictures.show(frame, record)
        if frame.source not in self._videos:
            self._videos[frame.source] = VideoFile(self._target(frame.source), self._live, self._keep)
        return self._videos[frame.source].show(frame, record)

    def close(self) -> None:
        """Finish the files."""
        for video in self._videos.values():
            video.close()

    def _target(self, source: str) -> Path:
        name = source.split("://")[1] if "://" in source else Path(source).stem
        stem = re.sub(r"[^\w.-]+", "_", name).strip("_") or "video"
        taken = {video.path for video in self._videos.values()}
        names = (self.folder / f"{stem}{f'-{number}' if number else ''}.mp4" for number in range(len(taken) + 1))
        target = next(path for path in names if path not in taken)
        _refuse_overwriting(target, source)
        if not self._keep:
            self._results.check(target)
        return target


class Crops(View):
    """Saves what the classifier saw in a folder for each label, ready for training.

    Args:
        folder: Made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._results = ResultsFolder(folder)

    def show(self, frame: Frame, record: Record) -> bool:
        """Save one crop, with no label below the threshold or when uncertain in ``_unsure``; always goes on.

        Raises:
            InputError: It cannot be written.
        """
        prediction = record.prediction
        if prediction is None or prediction.rectified is None:
            return True
        trusted = record.sure and record.uncertain is None
        label = _safe(prediction.label) if trusted else _UNSURE
        *folders, name = map(_safe, _mirrored(frame).parts)
        # By its time, ms: numbers of a camera's frames begin again with each run.
        moment = f"-{round(1000 * frame.time):06}" if frame.time is not None else ""
        parts = [label, *folders, f"{name}{moment}.png"]
        target = self.folder.joinpath(*map(_fitting, parts))
        self._results.check(target)
        _write(target, prediction.rectified)
        return True


def _mirrored(frame: Frame) -> Path:
    """Return a source's place below the folder that was searched or, where several were named, its whole path."""
    source = frame.source.split("://")[-1]
    if frame.root is not None:
        return Path(source).relative_to(frame.root)
    path = Path(os.path.normpath(source))
    return Path(*("up" if part == ".." else part for part in path.relative_to(path.anchor).parts))


def _fitting(name: str) -> str:
    """Return a name that file systems take: what is too long is cut, and told apart by a hash of the whole."""
    data, suffix = os.fsencode(name), Path(name).suffix[:10]
    if len(data) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(data).hexdigest()[:16]
    kept = data[: _LONGEST_NAME - len(digest) - 1 - len(os.fsencode(suffix))].decode("utf-8", "ignore")
    return f"{kept}-{digest}{suffix}"


def _safe(name: str) -> str:
    """Return a name that every system takes, another for each name: what is not safe is spelled as in an address."""
    unsafe = re.compile(r"[^\w .-]|^\.|[. ]$")
    return unsafe.sub(lambda found: quote(os.fsencode(found[0]), safe="").replace(".", "%2E"), name) or "%"


def open_saver(path: Path, names: Sequence[str], source: Source, keep: bool = False) -> View:
    """Return what ``--save PATH`` means for a source.

    Args:
        path: A folder, or for one video or camera also a video file.
        names: The sources as the user named them.
        source: Gives the frames that are saved.
        keep: Whether a run is resumed, so that what it saved stays.

    Raises:
        InputError: A picture file, a video file for pictures, or the place cannot be written.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path}: pictures are saved in a folder under their own names; give --save FOLDER")
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return SaveFolder(path, source.live, keep)
    if len(names) > 1:
        raise InputError(f"{path}: {len(names)} sources do not fit one video; give --save FOLDER")
    if source.streams != 1:
        raise InputError(f"{path}: pictures are saved in a folder, not in a video; give --save FOLDER")
    _refuse_overwriting(path, names[0])
    return VideoFile(path, source.live, keep)


def _refuse_overwriting(target: Path, source: str) -> None:
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise InputError(f"{target}: --save would overwrite the source; give another place")


def _write(target: Path, picture: Image) -> None:
    make_folder(target.parent)
    try:
        write_image(target, picture)
    except ImageReadError as error:
        raise InputError(str(error)) from error
