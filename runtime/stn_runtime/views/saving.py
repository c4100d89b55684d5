"""Saving annotated pictures and crops in folders, and choosing the view for ``--save``."""

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..errors import InputError
from ..images.preprocessing import Image
from ..images.reading import IMAGE_SUFFIXES
from ..images.writing import write_image
from ..machine.filesystem import make_folder
from ..records.record import Record
from ..sources.frame import Frame
from ..sources.result_folders import ResultsFolder
from ..sources.source import Source
from ..sources.video import VIDEO_SUFFIXES
from .file_names import fitting, mirrored, safe
from .overlay import Annotator
from .video_file import VideoFile
from .view import View

_WRITABLE = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_UNSURE = "_unsure"


class PictureFolder(View):
    """Saves an annotated copy of each picture, in the tree of the input.

    Args:
        folder: Made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._results = ResultsFolder(folder)
        self._annotator = Annotator()

    def show(self, frame: Frame, record: Record) -> bool:
        """Save one picture; always goes on.

        Raises:
            InputError: The copy would overwrite the picture itself, or cannot be written.
        """
        if frame.image is None or record.prediction is None:
            return True
        target = self.folder / mirrored(frame)
        if target.suffix.lower() not in _WRITABLE:
            target = target.with_name(fitting(target.name + ".png"))
        _refuse_overwriting(target, frame.source)
        self._results.check(target)
        _write(target, self._annotator.draw(frame, record))
        return True


class SaveFolder(View):
    """Saves annotated pictures, and a video of each video and camera, in a folder.

    Args:
        folder: Made when it is missing.
        live: Whether the frames are a camera's, and some are dropped.
        keep: Whether videos that exist stay, and new ones get another name.
    """

    def __init__(self, folder: Path, live: bool, keep: bool = False) -> None:
        self.folder, self._live, self._keep = folder, live, keep
        self._results = ResultsFolder(folder)
        self._pictures = PictureFolder(folder)
        self._videos: dict[str, VideoFile] = {}

    def show(self, frame: Frame, record: Record) -> bool:
        """Save one frame; always goes on.

        Raises:
            InputError: The file would overwrite its source, or cannot be written.
        """
        if frame.time is None:
            return self._pictures.show(frame, record)
        if frame.source not in self._videos:
            self._videos[frame.source] = VideoFile(self._target(frame.source), self._live, self._keep)
        return self._videos[frame.source].show(frame, record)

    def close(self) -> None:
        """Finish every file, also when one of them fails.

        Raises:
            InputError: A file lacks frames that were written.
        """
        with ExitStack() as closing:
            for video in self._videos.values():
                closing.callback(video.close)

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
    """Saves what the classifier saw in one folder per label, ready for training.

    Args:
        folder: Made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._results = ResultsFolder(folder)

    def show(self, frame: Frame, record: Record) -> bool:
        """Save one crop; below the threshold or when uncertain, in the folder ``_unsure``; always goes on.

        The label that means none of the others has a folder like all others, since training takes it as a class.

        Raises:
            InputError: The crop cannot be written.
        """
        prediction = record.prediction
        if prediction is None or prediction.rectified is None:
            return True
        trusted = record.sure and record.uncertain is None
        label = safe(prediction.shown_label) if trusted else _UNSURE
        *folders, name = map(safe, mirrored(frame).parts)
        # Named by time, ms: a camera's frame numbers begin again with each run.
        moment = f"-{round(1000 * frame.time):06}" if frame.time is not None else ""
        parts = [label, *folders, f"{name}{moment}.png"]
        target = self.folder.joinpath(*map(fitting, parts))
        self._results.check(target)
        _write(target, prediction.rectified)
        return True


class PictureFile(View):
    """Saves an annotated copy of the one picture of a run.

    Args:
        path: The file; its suffix says the format.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._annotator = path, Annotator()

    def show(self, frame: Frame, record: Record) -> bool:
        """Save the picture; always goes on.

        Raises:
            InputError: The copy would overwrite the picture itself, or cannot be written.
        """
        if frame.image is not None and record.prediction is not None:
            _refuse_overwriting(self.path, frame.source)
            _write(self.path, self._annotator.draw(frame, record))
        return True


def open_saver(path: Path, names: Sequence[str], source: Source, keep: bool = False) -> View:
    """Return the view for ``--save PATH``.

    Args:
        path: A folder, or for one video or camera also a video file, or for one picture also a picture file.
        names: The sources as the user named them.
        source: Gives the frames that are saved.
        keep: Whether the run is resumed, so that videos which exist stay.

    Raises:
        InputError: The path names one file for several pictures or videos, or cannot be written.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        if source.streams or source.total != 1 or not os.path.isfile(names[0]):
            raise InputError(f"{path}: is one picture, and the source is not; give --save FOLDER")
        if path.suffix.lower() not in _WRITABLE:
            raise InputError(f"{path}: pictures of this kind are not written; take {', '.join(sorted(_WRITABLE))}")
        _refuse_overwriting(path, names[0])
        return PictureFile(path)
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
    write_image(target, picture)
