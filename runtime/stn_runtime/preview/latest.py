"""The newest frame and the last records of a run, handed from the pipeline's thread to the server's."""

import json
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

from ..images.preprocessing import Image
from ..records.record import Record
from ..sources.frame import Frame
from .metrics import RunMetrics

_MOST_RECORDS = 64


@dataclass(frozen=True)
class NumberedRecord:
    """A record and its number in the run, from 1."""

    number: int
    record: Record

    @cached_property
    def event(self) -> bytes:
        """The record as a server-sent event, in ASCII, so that no name can break a line."""
        return f"id: {self.number}\ndata: {json.dumps(self.record.fields(), allow_nan=False)}\n\n".encode("ascii")


@dataclass(frozen=True)
class ClassifiedFrame:
    """A frame with its image, its record, and the record's number in the run."""

    number: int
    image: Image
    frame: Frame
    record: Record


class LatestResults:
    """Holds the newest classified frame and the last records; the pipeline's thread puts, the server's thread reads.

    Args:
        model: Name of the model for people.
        metrics: Counts every record.

    Attributes:
        newest_frame: The newest frame with a prediction; None before the first.
    """

    def __init__(self, model: str, metrics: RunMetrics) -> None:
        self.model, self.metrics = model, metrics
        self.newest_frame: ClassifiedFrame | None = None
        self._lock = Lock()
        self._records: deque[NumberedRecord] = deque(maxlen=_MOST_RECORDS)
        self._newest_number = 0

    @property
    def newest_number(self) -> int:
        """The newest record's number; 0 before the first."""
        return self._newest_number

    def put(self, frame: Frame, record: Record) -> None:
        """Hold a frame and its record; this neither draws nor waits for clients."""
        self.metrics.count(record)
        with self._lock:
            self._newest_number += 1
            self._records.append(NumberedRecord(self._newest_number, record))
        if frame.image is not None and record.prediction is not None:
            self.newest_frame = ClassifiedFrame(self._newest_number, frame.image, frame, record)

    def records_after(self, number: int) -> list[NumberedRecord]:
        """Return the held records whose number is higher, oldest first."""
        if number == self._newest_number:
            return []
        with self._lock:
            records = list(self._records)
        return [record for record in records if record.number > number]
