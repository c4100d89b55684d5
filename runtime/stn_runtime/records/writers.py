"""Writers of records: JSON lines, CSV, or short lines for a person at a terminal."""

import csv
import io
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, TextIO, TypeVar

from tqdm import tqdm

from ..errors import LONGEST_MESSAGE, InputError, printable
from .record import Record

CSV_COLUMNS = (
    "source",
    "frame",
    "time",
    "label",
    "confidence",
    "rejected",
    "top",
    "characters",
    "theta",
    "outline",
    "uncertain",
    "latency_ms",
    "event",
    "error",
)
"""The fields of a record, in the order of a CSV file's columns."""

_ALWAYS = ("event", "error")


_Writer = TypeVar("_Writer", bound="RecordWriter")


def columns_of(fields: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns that are written for the chosen fields: ``event`` and ``error`` are never left out.

    Args:
        fields: Names among ``CSV_COLUMNS``; None chooses all.

    Raises:
        ValueError: There is no field of such a name.
    """
    if fields is None:
        return CSV_COLUMNS
    for name in fields:
        if name not in CSV_COLUMNS:
            raise ValueError(f"records have no field '{name}'; they have {', '.join(CSV_COLUMNS)}")
    return (*dict.fromkeys(fields), *(name for name in _ALWAYS if name not in fields))


class RecordWriter(Protocol):
    """Takes records one by one; a context manager, at whose end it is closed."""

    @abstractmethod
    def write(self, record: Record) -> None:
        """Write one record, whole."""

    def close(self) -> None:
        """Finish; a writer on a stream of its caller leaves that open."""
        return

    def __enter__(self: "_Writer") -> "_Writer":
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the writer."""
        self.close()


class JsonLines(RecordWriter):
    """Writes records as JSON, one a line, in ASCII, so that no file name can break a line.

    Args:
        stream: Stays open at the end.
        fields: Names of the fields to write, see ``columns_of``.
    """

    def __init__(self, stream: TextIO, fields: Sequence[str] | None = None) -> None:
        self.stream, self._columns = stream, columns_of(fields)

    def write(self, record: Record) -> None:
        """Write one record, whole, and flush it."""
        values = record.fields()
        chosen = {name: values[name] for name in self._columns if name in values}
        _write_line(self.stream, json.dumps(chosen, allow_nan=False))


class Csv(RecordWriter):
    """Writes records as CSV with a header; a cell with a list, an object, true or false holds it as JSON.

    Args:
        stream: Stays open at the end.
        has_header: Whether the stream has a header already.
        fields: Names of the fields to write, see ``columns_of``.
    """

    def __init__(self, stream: TextIO, has_header: bool = False, fields: Sequence[str] | None = None) -> None:
        self.stream, self._columns = stream, columns_of(fields)
        if not has_header:
            self._line({name: name for name in self._columns})

    def write(self, record: Record) -> None:
        """Write one record, whole, and flush it."""
        cells = {
            name: json.dumps(value) if isinstance(value, (list, dict, bool)) else value
            for name, value in record.fields().items()
        }
        self._line(cells)

    def _line(self, cells: dict[str, Any]) -> None:
        line = io.StringIO(newline="")
        # The module quotes only what is in its line terminator, and a name may hold a carriage return.
        csv.DictWriter(line, self._columns, extrasaction="ignore", lineterminator="\r\n").writerow(cells)
        _write_line(self.stream, line.getvalue().removesuffix("\r\n"))


class Readable(RecordWriter):
    """Writes one short line a record for a person.

    Args:
        stream: Stays open at the end.
    """

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
            label = printable(record.prediction.shown_label)
            if record.missing_label is not None:
                label = f"{record.missing_label} ({label}{'' if record.rejected else '?'})"
            text = f"{where}: {label}  {record.prediction.confidence:.1%}"
            text += f"  (uncertain: {record.uncertain})" if record.uncertain else ""
        encoding = self.stream.encoding or "utf-8"
        text = printable(text, LONGEST_MESSAGE)
        with tqdm.external_write_mode(self.stream):  # a progress bar stands on the same terminal
            _write_line(self.stream, text.encode(encoding, "backslashreplace").decode(encoding))


def _write_line(stream: TextIO, line: str) -> None:
    try:
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:  # its reader is gone
        raise
    except OSError as error:
        raise InputError(f"{stream.name}: cannot be written ({error.strerror or error})") from error
