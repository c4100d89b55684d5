"""Names of saved files: in the tree of the input, taken by every system, different for different sources."""

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote

from ..sources.frame import Frame

_LONGEST_NAME = 240  # bytes of UTF-8; most file systems take 255


def mirrored(frame: Frame) -> Path:
    """Return the path of a frame's file below the folder that was searched, or its whole path without a folder."""
    source = frame.source.split("://")[-1]
    if frame.root is not None:
        return Path(source).relative_to(frame.root)
    path = Path(os.path.normpath(source))
    return Path(*("up" if part == ".." else part for part in path.relative_to(path.anchor).parts))


def fitting(name: str) -> str:
    """Return a name short enough for file systems: a long one is cut, and ends with a hash of the whole."""
    data, suffix = os.fsencode(name), Path(name).suffix[:10]
    if len(data) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(data).hexdigest()[:16]
    kept = data[: _LONGEST_NAME - len(digest) - 1 - len(os.fsencode(suffix))].decode("utf-8", "ignore")
    return f"{kept}-{digest}{suffix}"


def safe(name: str) -> str:
    """Return a name that every system takes, different for different names: unsafe characters are percent-encoded."""
    unsafe = re.compile(r"[^\w .-]|^\.|[. ]$")
    return unsafe.sub(lambda match: quote(_encoded(match[0]), safe="").replace(".", "%2E"), name) or "%"


def _encoded(character: str) -> bytes:
    """Return a character as a file system stores it; a lone surrogate that stands for no byte of a file name, too."""
    try:
        return os.fsencode(character)
    except UnicodeEncodeError:
        return character.encode("utf-8", "surrogatepass")
