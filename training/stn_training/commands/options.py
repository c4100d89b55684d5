"""Arguments that several commands share: their help, and how they are read."""

import argparse

from ..config import BENCHMARKS

DATA = f"{', '.join(BENCHMARKS)}, a folder with a folder of images per class, or a table of path,label (.csv)"
GROUP = "what in a file's path names a group, such as frames of one video; a split made here keeps it together"
CLASS_NAMES = "text file with the name of each class, a line each, in the order of the sorted folders"
TYPEFACES_HELP = "folder of typefaces that 'digits' and 'house-plates' print with"
ALL_FILES = "take also what other programs left in folders, such as ._IMG.jpg and @eaDir"


def seed(text: str) -> int:
    """Return a seed from the command line."""
    value = int(text) if text.isdecimal() else -1
    if not 0 <= value < 2**62:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got '{text}'")
    return value


def separated(text: str) -> tuple[str, ...]:
    """Return names that commas separate."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
