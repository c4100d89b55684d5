"""Video files: every frame in order, decoded ahead on a thread."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..images.opencv import cv2, encodable, rgb
from ..machine.prefetch import Prefetcher
from .done import Done
from .frame import EVERYTHING, Frame, Selection
from .source import Source

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})

_COUNTED = frozenset({".avi", ".m4v", ".mov", ".mp4"})  # containers that hold the number of frames
_MOST_DAMAGED = 10_000  # frames in a row, behind which no more are sought
_AHEAD = 4
_RELEASE_SECONDS = 5.0


class Video(Source):
    """A video file, its frames in order.

    Args:
        path: The file.
        selection: Says which of its frames are wanted.
        root: Folder below which results mirror the file's place; None where they keep the whole path.
        must_open: Whether a file that cannot be opened raises; otherwise its first frame carries the error.

    Raises:
        InputError: The file cannot be opened as a video, and ``must_open`` is set.
    """

    timed = True
    streams = 1

    def __init__(
        self, path: Path, selection: Selection = EVERYTHING, root: Path | None = None, must_open: bool = True
    ) -> None:
        self.path, self._selection = path, selection
        self._root = str(root) if root is not None else None
        self._announced, self._rate = 0, None
        try:
            self._announced, self._rate = self._ask()
        except InputError:
            if must_open:
                raise
        self._last = -1  # newest frame that has a record
        self._closed = False
        self._prefetcher = Prefetcher(self._passes(), _AHEAD)

    @property
    def total(self) -> int | None:
        """How many frames are wanted, if the file says its length."""
        if self._announced <= 0 or self._selection.loop or self._selection.max_fps is not None:
            return None
        stride = self._selection.stride
        return max(0, -(-self._announced // stride) - (self._last + stride) // stride)

    def skip(self, done: Done) -> None:
        """Leave out the frames that have a record already."""
        self._last = done.last(str(self.path))

    def ready(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the next frame; return whether it is there."""
        return self._prefetcher.peek(timeout) is not None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; one that is damaged carries an error, and so does the last of a video that is cut off."""
        try:
            yield from self._prefetcher
        finally:
            self.close()
            self._prefetcher.join(_RELEASE_SECONDS)

    def close(self) -> None:
        """Let the iteration end after the frame that is under way."""
        self._closed = True
        self._prefetcher.close()

    def _ask(self) -> tuple[int, float | None]:
        """Return how many frames the file announces, and how many a second."""
        capture = self._open()
        frames, rate = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
        capture.release()  # an open video holds files and threads: of many videos, only the one that is read is open
        return frames, rate if 0 < rate < 1000 else None

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(encodable(self.path))
        if not capture.isOpened():
            if os.path.isfile(self.path) and os.path.getsize(self.path) == 0:
                raise InputError(f"{self.path}: is empty (0 bytes)")
            raise InputError(
                f"{self.path}: cannot be opened as a video (damaged, cut off, or a format that OpenCV does not read); "
                "copy it again, or convert it: ffmpeg -i FILE new.mp4"
            )
        return capture

    def _passes(self) -> Iterator[Frame]:
        whole = True
        while whole and not self._closed:
            whole = False
            try:
                capture = self._open()
            except InputError as error:  # gone meanwhile, or one of many
                yield Frame(str(self.path), 0, None, None, str(error))
                return
            for frame in self._frames(capture):
                yield frame
                whole |= self._selection.loop and frame.image is not None

    def _frames(self, capture: cv2.VideoCapture) -> Iterator[Frame]:
        index = read = 0
        due = 0.0
        damaged: list[int] = []  # frames that were not decoded, unless the video has ended before them
        try:
            while not self._closed:
                started = time.perf_counter()
                if not capture.grab():  # of a damaged frame, and at the end
                    if index >= self._announced or len(damaged) >= _MOST_DAMAGED:
                        break
                    damaged.append(index)
                    index += 1
                    continue
                yield from self._damaged(damaged)
                damaged.clear()
                read += 1
                position = max(capture.get(cv2.CAP_PROP_POS_MSEC), 0.0) / 1000 or index / (self._rate or 25.0)
                if index % self._selection.stride == 0 and position >= due:
                    if index > self._last:
                        done, image = capture.retrieve()
                        yield from [self._frame(index, position, image, started)] if done else self._damaged([index])
                    # Counted from the wanted moment and not from the frame, so that the rate is met on average.
                    due = max(due + 1 / self._selection.max_fps, position - 1) if self._selection.max_fps else 0.0
                index += 1
        finally:
            capture.release()
        end = index - len(damaged)
        if not self._closed and (end > self._last or not read):  # else its last record is the error already
            yield from self._shortfall(end, read)

    def _damaged(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yield an error for each of these frames that is wanted."""
        for index in indices:
            if index % self._selection.stride == 0 and index > self._last:
                yield self._error(index, f"frame {index} cannot be decoded; is the file damaged?")

    def _frame(self, index: int, position: float, image: Any, started: float) -> Frame:  # noqa: ANN401  (cv2's)
        taken = 1000 * (time.perf_counter() - started)
        rate = self._rate and self._rate / self._selection.stride
        rate = min(rate, self._selection.max_fps or rate) if rate else None
        return Frame(str(self.path), index, position, rgb(image), root=self._root, decode_ms=taken, rate=rate)

    def _shortfall(self, end: int, read: int) -> Iterator[Frame]:
        """Yield an error when a video ends at another frame than the file announces.

        Where a container has no count, OpenCV estimates one from the duration, which may be that of the sound.
        """
        missing = self._announced - end
        tolerated = 0.0 if self.path.suffix.lower() in _COUNTED else (self._rate or 25.0)
        if not read:
            yield self._error(0, "has no frame that can be decoded")
        elif missing > tolerated:
            yield self._error(end, f"ends after {end} of {self._announced} frames; is it cut off?")
        elif missing > 0:
            log.warning("%s: ends after %d of about %d frames", self.path, end, self._announced)

    def _error(self, index: int, reason: str) -> Frame:
        return Frame(str(self.path), index, None, None, f"{self.path}: {reason}", root=self._root)
