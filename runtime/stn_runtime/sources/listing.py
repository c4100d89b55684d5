"""Which pictures there are: folders with their subfolders, lists, and folders that are watched for new ones."""

import logging
import os
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from ..errors import InputError
from ..images.reading import IMAGE_SUFFIXES
from .result_folders import is_marked

log = logging.getLogger(__name__)

_UTF8_MARK = b"\xef\xbb\xbf"  # that some editors begin a list with


class Folder:
    """The pictures below a folder, sorted, listed while they are iterated over; links to folders are not followed.

    Folders below it that hold results of a run are not searched. The names of one folder are held in memory, about
    120 bytes each.

    Args:
        root: Is listed with all folders below it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def count(self) -> int:
        """How many paths there were when this was first asked.

        Raises:
            InputError: The folder cannot be listed.
        """
        paths, folders = 0, [str(self.root)]
        while folders:
            folder = folders.pop()
            try:
                for name, is_folder in _entries(folder):
                    path = os.path.join(folder, name)
                    paths += not is_folder
                    if is_folder and not is_marked(path):
                        folders.append(path)
            except InputError:
                if folder == str(self.root):
                    raise
                paths += 1
        return paths

    def __iter__(self) -> Iterator[Path]:
        """Yield the paths of files whose suffix says that they are pictures, in the order of ``sorted``.

        A folder below that cannot be listed is such a path too: reading it tells why.

        Raises:
            InputError: The folder itself cannot be listed.
        """
        levels = [(str(self.root), _listed(str(self.root)))]
        while levels:
            folder, entries = levels[-1]
            try:
                path, is_folder = next(entries, (None, False))
            except InputError:
                if len(levels) == 1:
                    raise
                yield Path(folder)
                path, is_folder = None, False
            if path is None:
                levels.pop()
            elif not is_folder:
                yield Path(path)
            elif not is_marked(path):
                levels.append((path, _listed(path)))


class ListedFiles:
    """The paths in a list, one a line, or separated by NUL where there is any, as ``find -print0`` writes them.

    Args:
        list_file: The list; None reads standard input, once.
    """

    def __init__(self, list_file: Path | None) -> None:
        self.list_file = list_file

    def __iter__(self) -> Iterator[Path]:
        """Yield the paths, each as soon as it has been read; relative ones start from the working folder.

        Raises:
            InputError: The list cannot be read.
        """
        try:
            if self.list_file is None and sys.stdin is None:
                raise ValueError("it is closed")
            number = sys.stdin.fileno() if self.list_file is None else os.open(self.list_file, os.O_RDONLY)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.list_file or 'standard input'}: the list cannot be read ({error})") from error
        try:
            for place, name in enumerate(_split(number)):
                name = name if place else name.removeprefix(_UTF8_MARK)
                if name.strip():
                    yield Path(os.fsdecode(name))
        finally:
            if self.list_file is not None:
                os.close(number)


def _listed(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the pictures and folders in a folder, sorted: path, and whether it is a folder."""
    for name, is_folder in sorted(_entries(folder)):
        yield os.path.join(folder, name), is_folder


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """Yield the pictures and folders in a folder as the system lists them: name, and whether it is a folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder or os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                    yield entry.name, is_folder
    except OSError as error:
        raise InputError(f"{error.filename}: the folder cannot be listed ({error.strerror})") from error


def _split(number: int) -> Iterator[bytes]:
    """Yield the entries of a list from a file descriptor, without waiting for more than the next one."""
    pending, separator = b"", b"\n"
    while data := os.read(number, 1 << 16):
        pending += data
        if b"\0" in pending:
            separator = b"\0"
        *entries, pending = pending.split(separator)
        yield from (entry.removesuffix(b"\r") if separator == b"\n" else entry for entry in entries)
    yield pending
