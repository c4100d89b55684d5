"""Annotated frames in a video file."""

import logging
import shutil
import time
from pathlib import Path

from ..errors import InputError
from ..images.opencv import cv2, encodable
from ..machine.filesystem import make_folder
from ..records.record import Record
from ..sources.frame import Frame
from .overlay import Annotator
from .view import View

log = logging.getLogger(__name__)

_NOT_IN_BROWSERS = "mp4v"  # MPEG-4 Part 2, which every OpenCV writes
_DEFAULT_CODECS = ("avc1", _NOT_IN_BROWSERS)
_CODECS = {".avi": ("MJPG",), ".webm": ("VP80",)}
"""Codecs by suffix, the first that OpenCV has; others take ``_DEFAULT_CODECS``, H.264 where there is an encoder."""

_FALLBACK_RATE = 25.0
_LONGEST_HOLD = 10.0  # seconds that a saved video stands still where a camera sent nothing
_LEAST_ROOM, _CHECK_SECONDS = 1 << 20, 2.0  # free bytes that a disk must have, and seconds between checks


class VideoFile(View):
    """Saves annotated frames as a video; a change of size starts another file.

    Args:
        path: The video file; its suffix says the format.
        live: Whether the frames are a camera's, and some are dropped; the video still plays at the camera's speed.
        keep: Whether a file that exists stays, and the video gets another name.
    """

    def __init__(self, path: Path, live: bool, keep: bool = False) -> None:
        self.path, self._live, self._keep = path, live, keep
        self._annotator = Annotator(live)
        self._writer: cv2.VideoWriter | None = None
        self._rate = _FALLBACK_RATE
        self._size = (0, 0)
        self._files = self._written = 0
        self._target, self._check_at = path, 0.0
        self._until = 0.0  # time, seconds, up to which frames have been written
        make_folder(path.parent)

    def show(self, frame: Frame, record: Record) -> bool:
        """Append one frame; always goes on.

        Raises:
            InputError: OpenCV cannot write such a video.
        """
        if frame.image is None or record.prediction is None:
            return True
        self._check_room()
        picture = self._annotator.draw(frame, record)
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
            InputError: The file lacks frames that were written, about which OpenCV is silent.
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
        """Check the free space now and then, since OpenCV does not report a full disk."""
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + _CHECK_SECONDS
            if shutil.disk_usage(self.path.parent).free < _LEAST_ROOM:
                raise InputError(f"{self._target}: the disk is full")

    def _next(self) -> Path:
        while True:
            self._files += 1
            path = self.path if self._files == 1 else self.path.with_stem(f"{self.path.stem}-{self._files}")
            # A file of the name itself may be overwritten, one of a number that we chose may not.
            if not ((self._keep or self._files > 1) and path.exists()):
                return path

    def _open(self, size: tuple[int, int], rate: float | None) -> cv2.VideoWriter:
        self.close()
        self._rate = rate or _FALLBACK_RATE
        path = self._target = self._next()
        self._size = size
        for codec in _CODECS.get(path.suffix.lower(), _DEFAULT_CODECS):
            writer = cv2.VideoWriter(encodable(path), cv2.VideoWriter.fourcc(*codec), self._rate, size)
            if writer.isOpened():
                if codec == _NOT_IN_BROWSERS and self._files == 1:
                    log.warning(
                        "%s: this OpenCV has no H.264 encoder, so browsers will not play it (players such as VLC do); "
                        "a .webm they play, which takes longer to encode",
                        path,
                    )
                return writer
        raise InputError(f"{path}: OpenCV cannot write such a video; use .mp4, .mkv, .avi or .webm")
