"""Where pictures come from: image files, folders, globs, videos, cameras and streams."""

import glob
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .cli import GRABBER
from .errors import ImageReadError, InputError
from .images import IMAGE_SUFFIXES, Reduction, read_reduced
from .opencv import cv2, encodable
from .preprocessing import Image, PreprocessSpec, largest_reduction
from .records import Done
from .session import usable_cpus

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
STALL_SECONDS = 10.0
"""A camera that sends nothing for so long is reported as lost."""

_OPEN_TIMEOUT_MS = 10_000
_RELEASE_SECONDS = 1.0


@dataclass(frozen=True)
class Frame:
    """One picture of a source, or why there is none.

    Attributes:
        source: The file, camera or stream.
        index: Number of the frame in its source, from 0.
        time: Seconds since the start of a video, Unix time of a camera's frame, None for an image file.
        image: RGB or grey; None when it could not be had.
        error: One sentence when there is no image.
        root: For a file found in a folder, that folder.
        size: (height, width) of the whole picture, where ``image`` is a reduced one.
        decode_ms: What reading and decoding took; None for a camera, where it cannot be told from waiting.
    """

    source: str
    index: int
    time: float | None
    image: Image | None
    error: str | None = None
    root: str | None = None
    size: tuple[int, int] | None = None
    decode_ms: float | None = None


class Source(Protocol):
    """Something to iterate over once."""

    @property
    def live(self) -> bool:
        """Whether frames come in their own time, so that late ones are dropped."""

    @property
    def total(self) -> int | None:
        """How many frames there will be, if that is known."""

    @property
    def rate(self) -> float | None:
        """Frames a second of a video or camera, if it says."""

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Let the iteration end after the frame that is under way; may be called at any time."""


def open_source(text: str) -> Source:
    """Return the source that ``text`` names.

    Args:
        text: A camera's index or /dev path, an image, a video, a folder (searched with its subfolders), a glob, or
            an http, https or rtsp address.

    Raises:
        InputError: There is nothing of that name, or it cannot be opened; one sentence.
    """
    if re.fullmatch(r"\d+", text):
        index = int(text)
        return Live(f"camera {index}", lambda: cv2.VideoCapture(index))
    if re.match(r"(https?|rtsps?)://", text):
        return Live(text, lambda: _open_stream(text))
    if not text:
        raise InputError("the source is empty; name a camera, a picture, a folder, a video or an address")
    path = Path(text)
    if os.path.isdir(path):  # unlike Path's methods, these say no to a name that is too long
        return ImageFiles(_images_below(path), root=path)
    if text.startswith("/dev/") and os.path.exists(path):
        return Live(text, lambda: cv2.VideoCapture(text))
    if os.path.isfile(path):
        return Video(path) if path.suffix.lower() in VIDEO_SUFFIXES else ImageFiles([path])
    if glob.has_magic(text):
        found = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
        files = [name for name in found if name.is_file()]
        if not files:
            raise InputError(f"{text}: the pattern matches no file")
        return ImageFiles(files, root=Path(os.path.commonpath([name.parent for name in files])))
    raise InputError(f"{text}: no such file or folder; a camera is named by its number, a pattern needs * or ?")


class ImageFiles:
    """Image files, decoded ahead on threads and given in order.

    Args:
        paths: What to read.
        root: The folder that was searched, so that results can keep its tree.
    """

    live = False
    rate = None

    def __init__(self, paths: list[Path], root: Path | None = None) -> None:
        self.paths, self.root = paths, root
        self.total: int | None = len(paths)
        self._reduction: Reduction = lambda height, width: 1
        self._closed = False

    def skip(self, done: Done) -> None:
        """Leave out the files of which there is a record already."""
        self.paths = [path for path in self.paths if not done.has(str(path))]
        self.total = len(self.paths)

    def reduce_for(self, spec: PreprocessSpec) -> None:
        """Decode JPEGs at 1/2, 1/4 or 1/8 where that leaves twice the resolution of the network's input."""
        self._reduction = lambda height, width: largest_reduction(height, width, spec)

    def __iter__(self) -> Iterator[Frame]:
        """Yield a frame for each file, readable or not."""
        ahead = 2 * usable_cpus()
        waiting: deque[Future[Frame]] = deque()
        with ThreadPoolExecutor(usable_cpus()) as pool:
            try:
                for path in self.paths:
                    if self._closed:
                        return
                    waiting.append(pool.submit(self._read, path))
                    if len(waiting) > ahead:
                        yield waiting.popleft().result()
                while waiting and not self._closed:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Let the iteration end."""
        self._closed = True

    def _read(self, path: Path) -> Frame:
        root = str(self.root) if self.root is not None else None
        started = time.perf_counter()
        try:
            found = read_reduced(path, self._reduction)
            return Frame(
                str(path), 0, None, found.image, root=root, size=found.size, decode_ms=_milliseconds_since(started)
            )
        except ImageReadError as error:
            return Frame(str(path), 0, None, None, str(error), root=root)


class Video:
    """A video file, every frame in order.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be opened as a video.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture = cv2.VideoCapture(encodable(path))
        if not self._capture.isOpened():
            raise InputError(f"{path}: cannot be opened as a video (damaged, or a format that OpenCV does not read)")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate: float | None = rate if 0 < rate < 1000 else None
        total = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.total: int | None = total if total > 0 else None
        self._first = 0
        self._closed = False

    def skip(self, done: Done) -> None:
        """Leave out the frames of which there is a record already."""
        self._first = done.records

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; a video that ends long before its announced end yields an error last."""
        index = 0
        try:
            while not self._closed:
                started = time.perf_counter()
                done, image = self._capture.read()
                if not done:
                    break
                decode_ms = _milliseconds_since(started)
                position = max(self._capture.get(cv2.CAP_PROP_POS_MSEC), 0.0) / 1000
                if index >= self._first:
                    yield Frame(str(self.path), index, position, _rgb(image), decode_ms=decode_ms)
                index += 1
        finally:
            self._capture.release()
        if self._closed:
            return
        if index < self._first:  # its last record is already the error
            return
        if index == 0:
            yield Frame(str(self.path), 0, None, None, f"{self.path}: has no frame that can be decoded")
        elif self.total is not None and index < 0.9 * self.total:
            yield Frame(
                str(self.path),
                index,
                None,
                None,
                f"{self.path}: ends after {index} of {self.total} frames; is it cut off?",
            )

    def close(self) -> None:
        """Let the iteration end."""
        self._closed = True


class Live:
    """A camera or stream: a thread reads all the time and keeps only the newest frame.

    Args:
        name: For records.
        open_capture: Opens it; called on the reading thread's behalf, since some cameras block there.
        stall_seconds: After so long without a frame the source is lost.

    Raises:
        InputError: It cannot be opened.
    """

    live = True
    total = None

    def __init__(self, name: str, open_capture: Callable[[], Any], stall_seconds: float = STALL_SECONDS) -> None:
        self.name, self.stall_seconds = name, stall_seconds
        self.rate: float | None = None
        self._open_capture = open_capture
        self._changed = threading.Condition()
        self._newest: tuple[int, float, Any] | None = None
        self._state = "opening"
        self._stopped = False
        self._thread = threading.Thread(target=self._grab, name=f"{GRABBER} {name}", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._state != "opening", stall_seconds)
            state = self._state
        if state in ("opening", "refused"):
            self._stopped = True
            reason = "does not answer" if state == "opening" else "cannot be opened"
            raise InputError(f"{name}: {reason}; is it connected, switched on, and not in use by another program?")

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame each time, never the same twice; when the source is lost an error, then the end."""
        seen = -1
        try:
            while True:
                newest, state = self._wait_for_news(seen)
                if self._stopped:
                    return
                if newest is not None and newest[0] != seen:
                    seen, moment, image = newest
                    yield Frame(self.name, seen, moment, _rgb(image))
                    continue
                reason = "stopped sending frames" if state == "lost" else f"sent nothing for {self.stall_seconds:g} s"
                yield Frame(self.name, seen + 1, time.time(), None, f"{self.name}: {reason}")
                return
        finally:
            self.close()
            self._thread.join(_RELEASE_SECONDS)

    def close(self) -> None:
        """Let the iteration and the reading thread end; the thread releases the camera."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _wait_for_news(self, seen: int) -> tuple[tuple[int, float, Any] | None, str]:
        """Return the newest frame and the state, once either is news after frame ``seen``, or after a stall."""

        def is_news() -> bool:
            return self._stopped or self._state == "lost" or (self._newest is not None and self._newest[0] != seen)

        with self._changed:
            self._changed.wait_for(is_news, self.stall_seconds)
            return self._newest, self._state

    def _grab(self) -> None:
        state = "refused"
        try:
            capture = self._open_capture()
            try:
                if capture.isOpened():
                    rate = capture.get(cv2.CAP_PROP_FPS)
                    self.rate = rate if 0 < rate < 1000 else None
                    self._announce("running")
                    state = "lost"
                    self._read_until_lost(capture)
            finally:
                capture.release()
        except Exception as error:  # whatever a camera's driver raises, the camera is gone
            log.debug("%s: %s", self.name, error)
        self._announce(state)

    def _read_until_lost(self, capture: Any) -> None:  # noqa: ANN401  (cv2.VideoCapture or a stand-in)
        index = 0
        while not self._stopped:
            done, image = capture.read()
            if not done:
                return
            with self._changed:
                self._newest = (index, time.time(), image)
                self._changed.notify_all()
            index += 1

    def _announce(self, state: str) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()


def _open_stream(address: str) -> Any:  # noqa: ANN401  (cv2.VideoCapture's stubs do not cover its list of parameters)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS]
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)


def _images_below(folder: Path) -> list[Path]:
    files = []
    for place, folders, names in os.walk(folder, onerror=_cannot_list):  # follows no links, so no loops
        folders.sort()
        files += [Path(place, name) for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise InputError(f"{folder}: has no image files ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(files)


def _milliseconds_since(started: float) -> float:
    return 1000 * (time.perf_counter() - started)


def _cannot_list(error: OSError) -> None:
    raise InputError(f"{error.filename}: the folder cannot be listed ({error.strerror})") from error


def _rgb(image: Any) -> Image:  # noqa: ANN401  (what cv2.VideoCapture.read gives)
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[no-any-return]
