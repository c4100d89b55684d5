"""Folders and files: made, and written whole or not at all."""

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
