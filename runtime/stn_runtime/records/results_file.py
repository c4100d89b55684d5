"""Results files: opened for one run alone, and continued after what an interrupted run has written."""

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ..errors import InputError
from ..sources.done import Done
from .record import Record
from .writers import CSV_COLUMNS, Csv, JsonLines, RecordWriter

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

    Attributes:
        done: The frames that the file holds a record of already; without ``resume`` none.

    Raises:
        InputError: The suffix is neither .jsonl nor .csv, another run writes to the file, or it cannot be read,
            continued or written.
    """

    def __init__(self, path: Path | str, resume: bool = False) -> None:
        self.path = Path(path)
        kind = writer_for(self.path)
        end = 0

        def records() -> Iterator[tuple[str, int]]:
            nonlocal end
            for record, ends_at in _whole_records(self.path, kind):
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
            self._writer = Csv(self._stream, has_header=end > 0) if kind is Csv else JsonLines(self._stream)
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
        return InputError(f"{self.path}: cannot be written ({error.strerror or error})")


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
    """Return the source and frame number of a record; None when the line is no record."""
    try:
        if writer is Csv:
            cells = next(csv.reader(io.StringIO(line, newline="")), [])
            return (cells[0], int(cells[1])) if len(cells) == len(CSV_COLUMNS) else None
        record = json.loads(line)
        source, frame = record["source"], record["frame"]
    except (csv.Error, ValueError, TypeError, KeyError):
        return None
    return (source, frame) if isinstance(source, str) and isinstance(frame, int) else None
