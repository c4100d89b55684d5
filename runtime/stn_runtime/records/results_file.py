"""Results files: opened for one run alone, and continued after what an interrupted run has written."""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from ..errors import InputError
from ..machine.filesystem import why_not_written
from ..sources.done import Done
from .record import Record
from .writers import CSV_COLUMNS, Csv, JsonLines, RecordWriter, columns_of

_MOST_RECORD = 1 << 24  # bytes, with tens of thousands of labels


_MOST_LINES = 16  # lines of one record, whose names may hold line breaks; a longer one was not written by us


def writer_for(path: Path) -> type[JsonLines | Csv]:
    """Return the kind of writer for the suffix of a results file.

    Raises:
        InputError: The suffix is neither .jsonl nor .csv.
    """
    writers: dict[str, type[JsonLines | Csv]] = {".jsonl": JsonLines, ".csv": Csv}
    if path.suffix.lower() not in writers:
        raise InputError(f"{path}: results are written as .jsonl or .csv")
    return writers[path.suffix.lower()]


class ResultsFile(RecordWriter):
    """A results file, written by one run at a time.

    Args:
        path: A .jsonl or .csv file, made when it is missing.
        resume: Whether to keep what the file holds and to go on behind its last whole record; otherwise it is emptied.
        fields: Names of the fields to write, see ``columns_of``; to resume, ``source`` and ``frame`` are needed.

    Attributes:
        done: The frames that the file holds a record of already; without ``resume`` none.

    Raises:
        InputError: The suffix is neither .jsonl nor .csv, another run writes to the file, or it cannot be read,
            continued or written; or it has other columns, or ``fields`` lack what resuming needs.
    """

    def __init__(self, path: Path | str, resume: bool = False, fields: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        kind, columns = writer_for(self.path), columns_of(fields)
        if resume and not {"source", "frame"} <= set(columns):
            raise InputError(f"{self.path}: a file is resumed by the fields source and frame; choose them too")
        end = 0

        def records() -> Iterator[tuple[str, int]]:
            nonlocal end
            for record, ends_at in _whole_records(self.path, kind, columns):
                end = ends_at
                if record is not None:
                    yield record

        try:
            # Appending, so that a file that is cut or moved while it is written goes on whole.
            self._stream = self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="")
        except OSError as error:
            raise self._fault(error) from error
        try:
            _lock(self._stream)
            self.done = Done(records() if resume else ())
            if self.path.is_file():
                os.truncate(self.path, end)  # the old results, or a record that the interruption cut
            if kind is Csv:
                self._writer: RecordWriter = Csv(self._stream, has_header=end > 0, fields=fields)
            else:
                self._writer = JsonLines(self._stream, fields)
        except InputError:
            self._stream.close()
            raise
        except OSError as error:
            self._stream.close()
            raise self._fault(error) from error

    def write(self, record: Record) -> None:
        """Write one record, whole, and flush it.

        Raises:
            InputError: The file cannot be written.
        """
        self._writer.write(record)

    def close(self) -> None:
        """Close the file.

        Raises:
            InputError: The file cannot be written to its end, or was deleted while it was written.
        """
        if self._stream.closed:
            return
        is_deleted = not os.fstat(self._stream.fileno()).st_nlink and not os.path.exists(self.path)  # and not moved
        try:
            self._stream.close()
        except OSError as error:
            raise self._fault(error) from error
        if is_deleted:
            raise InputError(f"{self.path}: was deleted during the run, and its records with it")

    def _fault(self, error: OSError) -> InputError:
        return InputError(f"{self.path}: cannot be written ({why_not_written(self.path, error)})")


def _lock(stream: TextIO) -> None:
    """Lock a file for this process, where the system has locks.

    Raises:
        InputError: Another run writes to the file.
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


def _whole_records(
    path: Path, writer: type[JsonLines | Csv], columns: Sequence[str]
) -> Iterator[tuple[tuple[str, int] | None, int]]:
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
            text = pending.decode("utf-8", "backslashreplace")
            cells = text.strip().split(",") if writer is Csv and not end else []
            is_header = bool(cells) and set(cells) <= set(CSV_COLUMNS)
            if is_header and cells != list(columns):
                raise InputError(f"{path}: has the columns {','.join(cells)}; resume it with --fields of the same")
            record = _read_record(text, writer, columns)
            if (record is None and not is_header) or (writer is Csv and not end and not is_header):
                raise InputError(fault)
            end, pending = end + len(pending), b""
            yield None if is_header else record, end


def _read_record(line: str, writer: type[JsonLines | Csv], columns: Sequence[str]) -> tuple[str, int] | None:
    """Return the source and frame number of a record; None when the line is no record."""
    try:
        if writer is Csv:
            cells = next(csv.reader(io.StringIO(line, newline="")), [])
            if len(cells) != len(columns):
                return None
            return cells[columns.index("source")], int(cells[columns.index("frame")])
        record = json.loads(line)
        source, frame = record["source"], record["frame"]
    except (csv.Error, ValueError, TypeError, KeyError):
        return None
    return (source, frame) if isinstance(source, str) and isinstance(frame, int) else None
