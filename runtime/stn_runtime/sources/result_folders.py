"""Folders that pictures are saved in: marked, so that they are not read again; nobody's own files are overwritten."""

import os
from pathlib import Path

from ..errors import InputError
from ..images.foreign_files import is_foreign
from ..machine.filesystem import make_folder

MARK = ".stn-edge"
"""A file of this name in a folder says that what is in it was saved by ``stn run``."""


class ResultsFolder:
    """A folder that results go to; one that is new or empty is marked.

    Args:
        path: Made when it is missing.

    Raises:
        InputError: It cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path)
        self._is_ours = is_marked(path) or all(is_foreign(entry.name) for entry in path.iterdir())
        self._written: set[int] = set()  # hashes of the files of this run, where that matters
        if self._is_ours and not is_marked(path):
            try:
                (path / MARK).write_text("Saved by 'stn run', which does not read this folder as a source.\n")
            except OSError as error:
                raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error

    def check(self, target: Path) -> None:
        """Refuse to overwrite a file that this run has not written, unless the folder is marked.

        Raises:
            InputError: There is one.
        """
        if self._is_ours:
            return
        if hash(str(target)) not in self._written and target.exists():
            raise InputError(f"{target}: is there already, and not saved by 'stn run'; give an empty folder")
        self._written.add(hash(str(target)))


def is_marked(folder: str | Path) -> bool:
    """Return whether a folder holds results."""
    return os.path.exists(os.path.join(folder, MARK))


def check_place(results: Path, source: str) -> None:
    """Refuse to save where a folder is read.

    Args:
        results: A folder, there or not.
        source: The source as it stands on the command line.

    Raises:
        InputError: Results would be read again, or are the source.
    """
    place, read = os.path.realpath(results), os.path.realpath(source)
    if not os.path.isdir(read):
        return
    if place == read:
        raise InputError(f"{results}: is the source; save in another folder")
    if place.startswith(os.path.join(read, "")) and os.path.isdir(place) and not is_marked(place) and os.listdir(place):
        raise InputError(f"{results}: lies in the source and holds files already; save in an empty folder")
