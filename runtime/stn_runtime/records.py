"""Records: one line of results for each frame, as JSON, CSV or for a person at a terminal."""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from .classifier import Prediction
from .errors import InputError

_MOST_RECORD = 1 << 24  # bytes, with tens of thousands of labels
_MOST_LINES = 16  # of a record, whose names may hold line breaks; a file with more is not one of ours

CSV_COLUMNS = (
    "source",
    "frame",
    "time",
    "label",
    "confidence",
    "top",
    "theta",
    "outline",
    "uncertain",
    "latency_ms",
    "event",
    "error",
)


@dataclass(frozen=True)
class Record:
    """The result for one frame: a prediction, or why there is none; or an event of a camera.

    Attributes:
        source: The file, camera or stream.
        frame: Number of the frame in its source.
        time: Seconds since the start of a video, Unix time of a camera's frame, None for an image file.
        prediction: None when the frame could not be read.
        error: One sentence when there is no prediction, or why a source was lost.
        sure: Whether the confidence reaches the wanted threshold; if not, the record's label is null.
    """

    source: str
    frame: int
    time: float | None
    prediction: Prediction | None
    error: str | None = None
    sure: bool = True
    event: str | None = None
    uncertain: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return the record as plain values, ready for JSON."""
        found: dict[str, Any] = {"source": self.source, "frame": self.frame, "time": self.time}
        if self.event is not None:
            return found | {"event": self.event} | ({"error": self.error} if self.error is not None else {})
        if self.prediction is None:
            return found | {"error": self.error}
        prediction = self.prediction
        return found | {
            "label": prediction.label if self.sure else None,
            "confidence": _number(prediction.confidence, 6),
            "top": [{"label": score.label, "probability": _number(score.probability, 6)} for score in prediction.top],
            "theta": _numbers(np.array(prediction.theta), 6),
            "outline": _numbers(prediction.outline, 2),
            "uncertain": self.uncertain,
            "latency_ms": {stage: round(value, 3) for stage, value in prediction.latency_ms.items()},
        }


def _number(value: float, digits: int) -> float | None:
    """Return a rounded number, or None for one that JSON cannot say."""
    return round(float(value), digits) if math.isfinite(value) else None


def _numbers(values: NDArray[np.floating], digits: int) -> list[Any]:
    """Return an array as nested lists of rounded numbers, None for those that JSON cannot say."""
    rounded = values.astype(np.float64).round(digits)
    if not np.isfinite(rounded).all():
        rounded = np.where(np.isfinite(rounded), rounded.astype(object), np.array(None))
    listed: list[Any] = rounded.tolist()
    return listed


class JsonLines:
    """Writes records as JSON, one a line, ASCII only, so that no file name can break a line."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, record: Record) -> None:
        """Write one record, whole, and flush it."""
        _write_line(self.stream, json.dumps(record.fields(), allow_nan=False))


class Csv:
    """Writes records as CSV with a header; lists and objects as JSON within their cell."""

    def __init__(self, stream: TextIO, has_header: bool = False) -> None:
        self.stream = stream
        if not has_header:
            self._line(dict(zip(CSV_COLUMNS, CSV_COLUMNS, strict=True)))

    def write(self, record: Record) -> None:
        """Write one record, whole, and flush it."""
        cells = {
            name: json.dumps(value) if isinstance(value, (list, dict)) else value
            for name, value in record.fields().items()
        }
        self._line(cells)

    def _line(self, cells: dict[str, Any]) -> None:
        line = io.StringIO(newline="")
        # The module quotes only what is in its line terminator, and a name may hold a carriage return.
        csv.DictWriter(line, CSV_COLUMNS, lineterminator="\r\n").writerow(cells)
        _write_line(self.stream, line.getvalue().removesuffix("\r\n"))


class Readable:
    """Writes one short line a record for a person."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, record: Record) -> None:
        """Write one record and flush it."""
        where = record.source if record.time is None else f"{record.source} #{record.frame}"
        if record.event is not None:
            text = f"{where}: {record.event.replace('_', ' ')}{f' ({record.error})' if record.error else ''}"
        elif record.prediction is None:
            text = f"{where}: error: {(record.error or '').removeprefix(f'{record.source}: ')}"
        else:
            label = record.prediction.label if record.sure else f"unsure ({record.prediction.label}?)"
            text = f"{where}: {label}  {record.prediction.confidence:.1%}"
            text += f"  (uncertain: {record.uncertain})" if record.uncertain else ""
        encoding = self.stream.encoding or "utf-8"
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        _write_line(self.stream, text.encode(encoding, "backslashreplace").decode(encoding))


def _write_line(stream: TextIO, line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:  # its reader is gone
        raise
    except OSError as error:
        raise InputError(f"{stream.name}: cannot be written ({error.strerror or error})") from error


RecordWriter = JsonLines | Csv | Readable


class RecordSink(Protocol):
    """What takes records: a writer, or one on a thread of its own."""

    def write(self, record: Record) -> None:
        """Take one record."""


def writer_for(path: Path) -> type[JsonLines | Csv]:
    """Return the writer that a results file's suffix asks for.

    Raises:
        InputError: It is neither .jsonl nor .csv.
    """
    writers: dict[str, type[JsonLines | Csv]] = {".jsonl": JsonLines, ".csv": Csv}
    if path.suffix.lower() not in writers:
        raise InputError(f"{path}: results are written as .jsonl or .csv")
    return writers[path.suffix.lower()]


class Done:
    """What an interrupted run has written already.

    Names are kept as hashes of 64 bits, since there may be millions of them.

    Args:
        records: Of each, its source and frame.
    """

    def __init__(self, records: Iterable[tuple[str, int]] = ()) -> None:
        self._last: dict[str, int] = {}  # frames of videos and cameras, of which there are few
        hashes = np.fromiter(map(self._noted, records), np.int64)
        self.records = len(hashes)
        self._hashes, counts = np.unique(hashes, return_counts=True)
        self._counts = counts.astype(np.uint32)
        self._left = self._counts.copy()

    def last(self, source: str) -> int:
        """Return the number of the last frame of a source that has a record; -1 without any."""
        return self._last.get(_printable(source), 0 if self.count(source) else -1)

    def _noted(self, record: tuple[str, int]) -> int:
        source = _printable(record[0])
        if record[1]:
            self._last[source] = max(record[1], self._last.get(source, 0))
        return hash(source)

    def count(self, source: str) -> int:
        """Return how many records there are of a source."""
        at = self._place(source)
        return int(self._counts[at]) if at is not None else 0

    def take(self, source: str) -> bool:
        """Return whether there is a record of a source that was not taken yet, and take it."""
        at = self._place(source)
        if at is None or not self._left[at]:
            return False
        self._left[at] -= 1
        return True

    def _place(self, source: str) -> int | None:
        if not self.records:
            return None
        sought = hash(_printable(source))
        at = min(int(np.searchsorted(self._hashes, sought)), len(self._hashes) - 1)
        return at if self._hashes[at] == sought else None


def open_results(path: Path, resume: bool = False) -> tuple[RecordWriter, TextIO, Done]:
    """Return a writer for a results file, the file to close, and what it holds already.

    Args:
        path: Of the results.
        resume: Whether to keep what the file holds and to go on behind its last whole record; otherwise it is gone.

    Raises:
        InputError: The suffix is neither .jsonl nor .csv, or the file cannot be read, continued or written.
    """
    writer = writer_for(path)
    end = 0

    def records() -> Iterator[tuple[str, int]]:
        nonlocal end
        for record, ends_at in _whole_records(path, writer):
            end = ends_at
            if record is not None:
                yield record

    try:
        # Appending, so that a file that is cut or moved while it is written goes on whole.
        stream = path.open("a", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        _lock(stream)
        done = Done(records() if resume else ())
        if path.is_file():
            os.truncate(path, end)  # what is not to stay, or what the interruption cut
    except InputError:
        stream.close()
        raise
    except OSError as error:
        stream.close()
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    return (Csv(stream, has_header=end > 0) if writer is Csv else JsonLines(stream)), stream, done


def _lock(stream: TextIO) -> None:
    """Keep a file for this process, where the system can.

    Raises:
        InputError: Another run writes to it.
    """
    try:
        import fcntl  # of Unix
    except ImportError:
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"{stream.name}: is being written by another run; give another file") from error
    except OSError:  # some file systems have no locks
        pass


def _whole_records(path: Path, writer: type[JsonLines | Csv]) -> Iterator[tuple[tuple[str, int] | None, int]]:
    """Yield source and frame of each whole record of a results file, None for a header, and where it ends, bytes."""
    csv.field_size_limit(_MOST_RECORD)
    end = 0
    pending = b""
    fault = f"{path}: was not written by 'stn run', or is damaged, so it cannot be resumed; give another file"
    with path.open("rb") as stream:
        while line := stream.readline(_MOST_RECORD):
            pending += line
            if len(pending) >= _MOST_RECORD or pending.count(b"\n") > _MOST_LINES:
                raise InputError(fault)
            if not line.endswith(b"\n") or (writer is Csv and pending.count(b'"') % 2):  # a name with a line break
                continue
            record = _read_record(pending.decode("utf-8", "backslashreplace"), writer)
            is_header = writer is Csv and not end and pending.startswith(CSV_COLUMNS[0].encode() + b",")
            if (record is None and not is_header) or (writer is Csv and not end and not is_header):
                raise InputError(fault)
            end, pending = end + len(pending), b""
            yield None if is_header else record, end


def _read_record(line: str, writer: type[JsonLines | Csv]) -> tuple[str, int] | None:
    """Return which source and frame a record is of; None when it is no record."""
    try:
        if writer is Csv:
            cells = next(csv.reader(io.StringIO(line, newline="")), [])
            return (cells[0], int(cells[1])) if len(cells) == len(CSV_COLUMNS) else None
        found = json.loads(line)
        source, frame = found["source"], found["frame"]
    except (csv.Error, ValueError, TypeError, KeyError):
        return None
    return (source, frame) if isinstance(source, str) and isinstance(frame, int) else None


def _printable(source: str) -> str:
    """Return a name as a results file holds it, where bytes that are no UTF-8 are spelled out."""
    return source.encode("utf-8", "backslashreplace").decode("utf-8")
