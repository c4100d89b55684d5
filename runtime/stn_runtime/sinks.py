"""Where annotated pictures and crops go: folders and video files."""

import itertools
import re
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from .errors import ImageReadError, InputError
from .frames import Frame
from .images import make_folder, write_image
from .opencv import cv2, encodable
from .overlay import draw
from .preprocessing import Image
from .records import Record
from .video import VIDEO_SUFFIXES

_FALLBACK_RATE = 25.0
_LONGEST_HOLD = 1.0  # seconds that a saved video stands still where a camera gave nothing
_WRITABLE = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_UNSURE = "_unsure"


class View(Protocol):
    """What is shown each frame with its record."""

    def show(self, frame: Frame, record: Record) -> bool:
        """Show a frame, or take note of an error or event; return whether to go on."""

    def close(self) -> None:
        """Finish."""


class PictureFolder:
    """Saves an annotated copy of each picture, in the tree of the input.

    Args:
        folder: Made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = _Names()
        make_folder(folder)

    def show(self, frame: Frame, record: Record) -> bool:
        """Save one picture; always goes on.

        Raises:
            InputError: The copy would overwrite the picture itself, or cannot be written.
        """
        if frame.image is None or record.prediction is None:
            return True
        source = Path(frame.source)
        target = self.folder / (source.relative_to(frame.root) if frame.root is not None else source.name)
        if target.suffix.lower() not in _WRITABLE:
            target = target.with_name(target.name + ".png")
        target = self._names.free(target, frame.source)
        if target.exists() and source.exists() and target.samefile(source):
            raise InputError(f"{source}: --save would overwrite it; give another folder")
        _write(target, draw(frame.image, record.prediction, record.sure))
        return True

    def close(self) -> None:
        """Nothing is left open."""


class VideoFile:
    """Saves annotated frames as a video; a change of size starts another file.

    Args:
        path: Of the video; its suffix says the format.
        live: Whether frames are dropped on their way: the video then plays as fast as it was filmed all the same.
    """

    def __init__(self, path: Path, live: bool) -> None:
        self.path, self._live = path, live
        self._writer: cv2.VideoWriter | None = None
        self._rate = _FALLBACK_RATE
        self._size = (0, 0)
        self._files = 0
        self._until = 0.0  # the moment, seconds, up to which frames have been written
        make_folder(path.parent)

    def show(self, frame: Frame, record: Record) -> bool:
        """Append one frame; always goes on.

        Raises:
            InputError: OpenCV cannot write such a video.
        """
        if frame.image is None or record.prediction is None:
            return True
        picture = draw(frame.image, record.prediction, record.sure)
        size = (picture.shape[1], picture.shape[0])
        if self._writer is None or size != self._size:
            self._writer = self._open(size, frame.rate)
        for _ in range(self._repeats(frame.time)):
            self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return True

    def close(self) -> None:
        """Finish the file; without this its index is missing."""
        if self._writer is not None:
            self._writer.release()

    def _repeats(self, moment: float | None) -> int:
        """Return how often a frame is written so that the file, at its constant rate, keeps the camera's time."""
        if not self._live or moment is None:
            return 1
        if abs(moment - self._until) > _LONGEST_HOLD:  # a gap, or a clock that was put right
            self._until = moment
        repeats = max(0, round((moment - self._until) * self._rate) + 1)
        self._until += repeats / self._rate
        return repeats

    def _open(self, size: tuple[int, int], rate: float | None) -> cv2.VideoWriter:
        self.close()
        self._files += 1
        self._rate = rate or _FALLBACK_RATE
        path = self.path if self._files == 1 else self.path.with_stem(f"{self.path.stem}-{self._files}")
        codec = "MJPG" if path.suffix.lower() == ".avi" else "mp4v"
        writer = cv2.VideoWriter(encodable(path), cv2.VideoWriter.fourcc(*codec), self._rate, size)
        self._size = size
        if not writer.isOpened():
            raise InputError(f"{path}: OpenCV cannot write such a video; use .mp4 or .avi")
        return writer


class SaveFolder:
    """Saves annotated pictures, and a video of each video and camera, in a folder.

    Args:
        folder: Made when it is missing.
        live: Whether frames are dropped on their way.
    """

    def __init__(self, folder: Path, live: bool) -> None:
        self.folder, self._live = folder, live
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
            self._videos[frame.source] = VideoFile(self._target(frame.source), self._live)
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
        return target


class Crops:
    """Saves what the classifier saw in a folder for each label, ready for training.

    Args:
        folder: Made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = _Names()
        make_folder(folder)

    def show(self, frame: Frame, record: Record) -> bool:
        """Save one crop, with no label below the threshold or when uncertain in ``_unsure``; always goes on.

        Raises:
            InputError: It cannot be written.
        """
        prediction = record.prediction
        if prediction is None or prediction.rectified is None:
            return True
        trusted = record.sure and record.uncertain is None
        label = _folder_name(prediction.label) if trusted else _UNSURE
        source = Path(frame.source)
        name = str(source.relative_to(frame.root)) if frame.root is not None else source.name
        if "://" in frame.source:
            name = frame.source.split("://")[1]
        stem = re.sub(r"[^\w.-]+", "_", name).strip("_.") or "frame"
        if frame.time is None:
            target = self._names.free(self.folder / label / f"{stem}.png", frame.source)
        else:  # by its time, ms: numbers of a camera's frames begin again with each run
            target = self.folder / label / f"{stem}-{round(1000 * frame.time):06}.png"
        _write(target, prediction.rectified)
        return True

    def close(self) -> None:
        """Nothing is left open."""


class _Names:
    """Sees to it that pictures of one name, from different folders, are not saved over each other."""

    def __init__(self) -> None:
        self._owners: dict[int, int] = {}  # hashes, since there may be very many

    def free(self, target: Path, source: str) -> Path:
        """Return ``target``, or where that is another source's already, a name with a number."""
        names = (target.with_stem(f"{target.stem}-{number}") for number in itertools.count(2))
        owner = hash(source)
        return next(
            name
            for name in itertools.chain([target], names)
            if self._owners.setdefault(hash(str(name)), owner) == owner
        )


def _folder_name(label: str) -> str:
    """Return a name that every system takes, another for each label: what is not safe is spelled as in an address."""
    unsafe = re.compile(r"[^\w .-]|^\.|[. ]$")
    return unsafe.sub(lambda found: quote(found[0], safe="").replace(".", "%2E"), label) or "%"


def open_saver(path: Path, sources: list[str], has_time: bool, live: bool) -> View:
    """Return what ``--save PATH`` means for a source.

    Args:
        path: A folder, or for one video or camera also a video file.
        sources: As the user named them.
        has_time: Whether they are one video or cameras.
        live: Whether they are cameras.

    Raises:
        InputError: A video file for pictures, or the place cannot be written.
    """
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return SaveFolder(path, live)
    if len(sources) > 1:
        raise InputError(f"{path}: {len(sources)} sources do not fit one video; give --save FOLDER")
    if not has_time:
        raise InputError(f"{path}: pictures are saved in a folder, not in a video; give --save FOLDER")
    _refuse_overwriting(path, sources[0])
    return VideoFile(path, live)


def _refuse_overwriting(target: Path, source: str) -> None:
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise InputError(f"{target}: --save would overwrite the source; give another name")


def _write(target: Path, picture: Image) -> None:
    make_folder(target.parent)
    try:
        write_image(target, picture)
    except ImageReadError as error:
        raise InputError(str(error)) from error
