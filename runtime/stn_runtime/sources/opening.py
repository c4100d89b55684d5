"""Opening a source by its name: files, folders, patterns, lists, videos, cameras and streams."""

import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..images.foreign_files import is_below_foreign, passed_over
from ..images.preprocessing import PreprocessSpec
from ..images.reading import IMAGE_SUFFIXES
from ..machine.redaction import without_secrets
from .cameras import Camera, LiveCameras
from .captures import AS_IT_COMES, PICAM, CameraOptions, check_backend
from .done import Done
from .frame import EVERYTHING, Frame, Selection
from .image_files import ImageFiles
from .listing import Folder, ListedFiles
from .result_folders import is_marked
from .source import Source
from .video import VIDEO_SUFFIXES, Video

log = logging.getLogger(__name__)

LIST_SUFFIXES = frozenset({".lst", ".txt"})
_STORE = re.compile(r"(s3|gs|gcs|hdfs|file)://")
_FOR_A_CLUSTER = "is read with --engine ray and --output FOLDER"
_ADDRESS = re.compile(r"(https?|rtsps?)://", re.IGNORECASE)


def open_source(
    text: str | Path | Sequence[str | Path],
    options: CameraOptions = AS_IT_COMES,
    selection: Selection = EVERYTHING,
) -> Source:
    """Return the source that ``text`` names.

    Args:
        text: A camera's index or /dev path, ``picam``, an image, a video, a folder (searched with its subfolders), a
            glob, a list of images (.txt, or ``-`` for standard input), or an http, https or rtsp address; or several:
            cameras, which are read at the same time, or files, which follow each other. A camera may be given the name
            that its frames bear: ``front=rtsp://...``.
        options: Say how cameras are asked for pictures, and watched.
        selection: Says which frames are wanted.

    Raises:
        InputError: There is nothing of that name, or it cannot be opened; one sentence.
        TypeError: ``text`` is neither names nor paths.
        ValueError: No source is named.
    """
    texts = _texts(text)
    check_backend(options.backend)
    labels, names = zip(*(_label_and_name(name, options) for name in texts), strict=True)
    cameras = [name for name in names if _is_camera(name, options)]
    if cameras and len(cameras) < len(names):
        other = next(name for name in names if name not in cameras)
        raise InputError(f"{other}: files and cameras ({_shown(cameras[0])}) are not read in one run; start two")
    _check_unique(names)
    if cameras:
        _check_cameras(cameras, selection)
        shown = [label or _shown(name) for label, name in zip(labels, names, strict=True)]
        _check_unique(shown)
        return LiveCameras(
            [Camera.named(*pair, options) for pair in zip(names, shown, strict=True)], options, selection
        )
    _check_selection(names, selection)
    sources = [_open_files(name, selection, len(names) == 1) for name in names]
    if selection.max_fps is not None and not all(source.timed for source in sources):
        raise InputError("--max-fps is for videos and cameras: pictures have no time; take --stride")
    return sources[0] if len(sources) == 1 else Chain(sources)


def _texts(text: str | Path | Sequence[str | Path]) -> list[str]:
    several = [text] if isinstance(text, str | Path) or not isinstance(text, Iterable) else list(text)
    for name in several:
        if not isinstance(name, str | Path):
            raise TypeError(f"a source is a name or a path, such as '0' for the first camera, got {name!r}")
    if not several:
        raise ValueError("no source is named")
    return [str(name) for name in several]


class Chain(Source):
    """Files, folders and videos, one source after the other.

    Args:
        sources: Read in this order; at least one.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources
        self.timed = all(source.timed for source in sources)
        self.streams = sum(source.streams for source in sources)
        self._current = sources[0]
        self._closed = False

    @property
    def total(self) -> int | None:
        """How many frames there will be, if every source knows."""
        totals = [source.total for source in self.sources]
        return None if None in totals else sum(total or 0 for total in totals)

    def skip(self, done: Done) -> None:
        """Leave out the frames that have a record already."""
        for source in self.sources:
            source.skip(done)

    def reduce_for(self, spec: PreprocessSpec, least: int = 0) -> None:
        """Decode JPEGs at 1/2, 1/4 or 1/8 where that leaves twice the network's input and ``least`` pixels."""
        for source in self.sources:
            source.reduce_for(spec, least)

    def ready(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the next frame of the same source; return whether it is there."""
        return self._current.ready(timeout)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames of each source in turn."""
        for source in self.sources:
            if self._closed:
                return
            self._current = source
            yield from source

    def close(self) -> None:
        """Let the iteration end after the frame that is under way."""
        self._closed = True
        for source in self.sources:
            source.close()


def _label_and_name(text: str, options: CameraOptions) -> tuple[str, str]:
    """Split ``front=rtsp://...`` into the camera's label, empty where it has none, and the camera."""
    match = re.fullmatch(r"([\w.-]+)=(.+)", text)
    if match and _is_camera(match[2], options) and not os.path.exists(text):
        return match[1], match[2]
    return "", text


def _check_unique(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{_shown(name)}: is named twice; name it once")


def _check_cameras(names: Sequence[str], selection: Selection) -> None:
    for name in names:
        if name.isdecimal() and os.path.exists(name) and not os.path.exists(f"/dev/video{name}"):
            raise InputError(f"{name}: is no camera here; for the file or folder of that name write ./{name}")
    if selection.loop or selection.watch:
        raise InputError(f"{_shown(names[0])}: a camera has no end to loop at and is no folder to watch")


def _is_camera(name: str, options: CameraOptions) -> bool:
    if name.isdecimal() or _ADDRESS.match(name) or PICAM.fullmatch(name):
        return True
    is_pipeline = options.backend == "gstreamer" and "!" in name
    # One that is not there yet may be waited for.
    is_device = name.startswith("/dev/") and not (os.path.isdir(name) or os.path.isfile(name) or glob.has_magic(name))
    return is_pipeline or is_device


def _shown(name: str) -> str:
    """Return how records and messages name a source: an address without user, password and other secrets."""
    if name.isdecimal():
        return f"camera {name}"
    return without_secrets(name)


def _check_selection(names: Sequence[str], selection: Selection) -> None:
    if selection.watch and (len(names) > 1 or not os.path.isdir(names[0])):
        raise InputError(f"{names[0]}: --watch takes one folder")
    if selection.watch and (selection.loop or selection.stride > 1):
        raise InputError("--watch reads each picture once: leave --loop and --stride out")
    if selection.loop and (len(names) > 1 or names[0] == "-"):
        raise InputError(f"{names[0]}: --loop takes one source that can be read again")


def _open_files(text: str, selection: Selection, is_alone: bool) -> Source:
    """Open what one name stands for; results of several, which may hold files of one name, keep whole paths."""
    if not text:
        raise InputError("the source is empty; name a camera, a picture, a folder, a video or an address")
    if text == "-":
        return ImageFiles(ListedFiles(None), selection=selection)
    path = Path(text)
    if os.path.isdir(path):  # unlike Path's methods, these say no to a name that is too long
        return _open_folder(path, selection, path if is_alone else None)
    if os.path.isfile(path):
        suffix = path.suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            return Video(path, selection, path.parent if is_alone else None, must_open=is_alone)
        if suffix in LIST_SUFFIXES:
            listed = ListedFiles(path)
            return ImageFiles(listed, selection=selection, count=lambda: sum(1 for _ in listed))
        if suffix == ".parquet":
            raise InputError(f"{text}: {_FOR_A_CLUSTER}")
        return ImageFiles([path], path.parent if is_alone else None, selection)
    if glob.has_magic(text):
        return _open_pattern(text, selection, is_alone)
    if _STORE.match(text):
        raise InputError(f"{_shown(text)}: {_FOR_A_CLUSTER}")
    raise InputError(f"{_shown(text)}: no such file or folder; a camera is named by its number, a pattern needs * or ?")


def _open_folder(path: Path, selection: Selection, root: Path | None) -> ImageFiles:
    folder = Folder(path, selection.all_files)
    # Goes through all of it: a folder that cannot be listed is not passed over in the middle of a run.
    if not folder.count and not selection.watch:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(folder.passed_over or folder.unread or f"{path}: has no image files ({kinds})")
    for sentence in filter(None, (folder.passed_over, folder.unread)):
        log.warning("%s", sentence)
    return ImageFiles(folder, root, selection, count=None if selection.watch else lambda: folder.count)


def _is_result(path: Path, named: Path) -> bool:
    """Return whether a file is in a folder of results below the one that was named."""
    return any(is_marked(folder) for folder in path.parents if named in folder.parents)


def _open_pattern(text: str, selection: Selection, is_alone: bool) -> Source:
    named = os.path.dirname(re.split(r"[*?[]", text)[0])
    matches = [Path(name) for name in sorted(glob.glob(text, recursive=True)) if os.path.isfile(name)]
    paths = [path for path in matches if not _is_result(path, Path(named))]
    foreign = [] if selection.all_files else [path for path in paths if is_below_foreign(path, Path(named))]
    paths = sorted({*paths} - {*foreign})
    if foreign:
        log.warning("%s", passed_over(text, len(foreign), [str(foreign[0])]))
    if not paths:
        raise InputError(f"{text}: the pattern matches no file")
    root = Path(os.path.commonpath([name.parent for name in paths])) if is_alone else None
    videos = [name for name in paths if name.suffix.lower() in VIDEO_SUFFIXES]
    pictures = [name for name in paths if name.suffix.lower() not in VIDEO_SUFFIXES]
    if not videos:
        return ImageFiles(pictures, root, selection)
    if selection.loop:
        raise InputError(f"{text}: --loop takes pictures, or one video; the pattern matches videos")
    sources: list[Source] = [ImageFiles(pictures, root, selection)] if pictures else []
    return Chain(sources + [Video(name, selection, root, must_open=False) for name in videos])
