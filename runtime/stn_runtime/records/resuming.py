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
from .writers import CSV_COLUMNS, Csv, JsonLines, RecordWriter

_MOST_RECORD = 1 << 24  # bytes, with tens of thousands of labels


_MOST_LINES = 16  # of a record, whose names may hold line breaks; a file with more is not one of ours


def writer_for(path: Path) -> type[JsonLines | Csv]:
    """Return the writer that a results file's suffix asks for.

    Raises:
        InputError: It is neither .jsonl nor .csv.
    """
    writers: dict[str, type[JsonLines | Csv]] = {".jsonl": JsonLines, ".csv": Csv}
    if path.suffix.lower() not in writers:
        raise InputError(f"{path}: results are written as .jsonl or .csv")
    return writers[path.suffix.lower()]


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
