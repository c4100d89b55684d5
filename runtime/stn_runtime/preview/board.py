"""What a run leaves for its preview: the newest picture, the last records and the counts."""

import json
from collections import deque
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock

import numpy as np

from ..images.opencv import cv2
from ..images.preprocessing import Image
from ..records.record import Record
from ..sources.frame import Frame
from ..views.overlay import draw
from .metrics import Tally

_RECORDS = 64
_LONGEST_SIDE = 1280  # pixels
_QUALITY = 80


@dataclass(frozen=True)
class Entry:
    """A record with its number in the run, from 1."""

    number: int
    record: Record

    @cached_property
    def event(self) -> bytes:
        """The record as a server-sent event, ASCII, so that no name can break a line."""
        return f"id: {self.number}\ndata: {json.dumps(self.record.fields(), allow_nan=False)}\n\n".encode("ascii")


@dataclass(frozen=True)
class Picture:
    """A frame that was classified, its record, and the record's number."""

    number: int
    image: Image
    frame: Frame
    record: Record


class Board:
    """Where the pipeline's thread puts each frame with its record, and the server's thread looks.

    Args:
        model: Its name, for people.
        tally: Counts the records.
    """

    def __init__(self, model: str, tally: Tally) -> None:
        self.model, self.tally = model, tally
        self.newest: Picture | None = None
        self._lock = Lock()
        self._entries: deque[Entry] = deque(maxlen=_RECORDS)
        self._posted = 0

    @property
    def posted(self) -> int:
        """The newest record's number; 0 before the first."""
        return self._posted

    def post(self, frame: Frame, record: Record) -> None:
        """Keep a frame, until the next one, and its record; neither draws nor waits."""
        self.tally.count(record)
        with self._lock:
            self._posted += 1
            self._entries.append(Entry(self._posted, record))
        if frame.image is not None and record.prediction is not None:
            self.newest = Picture(self._posted, frame.image, frame, record)

    def since(self, number: int) -> list[Entry]:
        """Return the records after the one of that number, as far as they are still there."""
        if number == self._posted:
            return []
        with self._lock:
            entries = list(self._entries)
        return [entry for entry in entries if entry.number > number]


def annotated_jpeg(picture: Picture) -> bytes:
    """Return a picture with its prediction drawn on it, the longer side 1280 pixels at most, as JPEG."""
    image, prediction = picture.image, picture.record.prediction
    if prediction is None:
        raise ValueError(f"record {picture.number} has no prediction to draw")
    height, width = image.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    whole_height, whole_width = picture.frame.size or (height, width)
    factors = (image.shape[1] / whole_width, image.shape[0] / whole_height)
    if factors != (1.0, 1.0):
        prediction = replace(prediction, outline=(prediction.outline + 0.5) * factors - 0.5)
    drawn = draw(image, prediction, picture.record.sure)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
