"""Which pictures there are: folders with their subfolders, lists, and folders that are watched for new ones."""

import logging
import os
import sys
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import InputError
from ..images.foreign_files import is_foreign, passed_over
from ..images.reading import IMAGE_SUFFIXES
from ..images.unread_kinds import UNREAD_SUFFIXES, unread
from .result_folders import is_marked
from .video import VIDEO_SUFFIXES

log = logging.getLogger(__name__)

_KNOWN = IMAGE_SUFFIXES | UNREAD_SUFFIXES | VIDEO_SUFFIXES
_UTF8_MARK = b"\xef\xbb\xbf"  # that some editors begin a list with


class Folder:
    """The pictures below a folder, sorted, listed while they are iterated over; links to folders are not followed.

    Folders below it that hold results of a run are not searched, nor what other programs left. The names of one folder
    are held in memory, about 120 bytes each.

    Args:
        root: Is listed with all folders below it.
        all_files: Whether to take also what other programs left, such as ``._IMG.jpg``.
    """

    def __init__(self, root: Path, all_files: bool = False) -> None:
        self.root, self._all_files = root, all_files

    @cached_property
    def count(self) -> int:
        """How many paths there were when this was first asked.

        Raises:
            InputError: The folder cannot be listed.
        """
        return self._found.paths

    @cached_property
    def passed_over(self) -> str | None:
        """The sentence that says how many files of other programs are passed over; None when there are none.

        Raises:
            InputError: The folder cannot be listed.
        """
        files, example = self._found.foreign, self._found.foreign_example
        return passed_over(self.root, files, [os.path.relpath(example, self.root)]) if files else None

    @cached_property
    def unread(self) -> str | None:
        """The sentence that says how many pictures of kinds that are not read, and videos, are there; None without any.

        Raises:
            InputError: The folder cannot be listed.
        """
        files, example = self._found.unread, self._found.unread_example
        if not files:
            return None
        return f"{unread(self.root, files, os.path.relpath(example, self.root))}, and name videos themselves"

    @cached_property
    def _found(self) -> "_Found":
        """What is there when this is first asked."""
        found = _Found()
        folders = [(str(self.root), False)]
        while folders:
            folder, within = folders.pop()
            try:
                for name, is_folder in _entries(folder, _KNOWN):
                    path, is_passed = os.path.join(folder, name), within or (not self._all_files and is_foreign(name))
                    if not is_folder:
                        found.count(path, is_passed)
                    elif not is_marked(path):
                        folders.append((path, is_passed))
            except InputError:
                if folder == str(self.root):
                    raise
                found.paths += not within
        return found

    def __iter__(self) -> Iterator[Path]:
        """Yield the paths of files whose suffix says that they are pictures, in the order of ``sorted``.

        A folder below that cannot be listed is such a path too: reading it tells why.

        Raises:
            InputError: The folder itself cannot be listed.
        """
        levels = [(str(self.root), self._listed(str(self.root)))]
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
                levels.append((path, self._listed(path)))

    def _listed(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Yield the pictures and folders in a folder, sorted: path, and whether it is a folder."""
        for name, is_folder in sorted(_entries(folder)):
            if self._all_files or not is_foreign(name):
                yield os.path.join(folder, name), is_folder


@dataclass
class _Found:
    """How many files a folder holds of each sort, and an example of those that are not taken."""

    paths: int = 0
    foreign: int = 0
    foreign_example: str = ""
    unread: int = 0
    unread_example: str = ""

    def count(self, path: str, is_foreign: bool) -> None:
        is_picture = _suffix(path) in IMAGE_SUFFIXES
        if is_foreign and is_picture:
            self.foreign, self.foreign_example = self.foreign + 1, self.foreign_example or path
        elif is_picture:
            self.paths += 1
        elif not is_foreign:
            self.unread, self.unread_example = self.unread + 1, self.unread_example or path


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


def _entries(folder: str, suffixes: Set[str] = IMAGE_SUFFIXES) -> Iterator[tuple[str, bool]]:
    """Yield the files of some suffixes, and the folders, in a folder in the system's order: name, whether a folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder or _suffix(entry.name) in suffixes:
                    yield entry.name, is_folder
    except OSError as error:
        raise InputError(f"{error.filename}: the folder cannot be listed ({error.strerror})") from error


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


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
