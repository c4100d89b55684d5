"""Folders that are made on demand, and files that are written as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it, unless it is there.

    Raises:
        InputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder ({error.strerror or error})") from error


def check_writable(folder: Path) -> None:
    """Refuse a folder in which no file can be made.

    Raises:
        InputError: The folder, or what it lies on, is only to be read.
    """
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder}: cannot be written to; name another place")


def cache_folder() -> Path:
    """Return where this user's programs keep what they can make or fetch again; it need not be there yet.

    A relative ``XDG_CACHE_HOME`` does not count, as the XDG base directory specification says.
    """
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (chosen if chosen.is_absolute() else Path.home() / ".cache") / "stn-edge"


def existing_parent(path: Path) -> Path:
    """Return the nearest folder above ``path`` that there is."""
    return next(above for above in path.absolute().parents if above.is_dir())


def why_not_written(path: Path, error: OSError) -> str:
    """Return what keeps a file from being written; of a folder that is missing, which one."""
    missing = [folder for folder in path.parents if not folder.exists()]
    return f"there is no folder {missing[-1]}" if missing else error.strerror or str(error)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; the file that the block writes there replaces ``path`` at its end.

    A reader sees the earlier file or the new one, never a part. A block that fails leaves the earlier file and no
    temporary one. Several processes may write the same file; the last one wins.

    Raises:
        OSError: The file cannot be replaced.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:  # also a signal in the middle
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a file as ``whole_file`` does: it holds its earlier content or ``data``, never a part.

    Raises:
        OSError: The file cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_bytes(data)
