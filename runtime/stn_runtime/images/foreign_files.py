"""What other programs leave in folders of pictures: companions, thumbnails, indexes, bins."""

from collections.abc import Iterable
from pathlib import Path

_NAMES = frozenset(
    {
        # macOS
        ".ds_store",
        ".apdisk",
        ".appledouble",
        ".appledb",
        ".appledesktop",
        ".documentrevisions-v100",
        ".fseventsd",
        ".spotlight-v100",
        ".temporaryitems",
        ".trash",
        ".trashes",
        ".volumeicon.icns",
        "__macosx",
        "network trash folder",
        "temporary items",
        # Windows
        "$recycle.bin",
        "desktop.ini",
        "ehthumbs.db",
        "recycler",
        "system volume information",
        "thumbs.db",
        # Linux desktops
        ".directory",
        ".thumbnails",
        ".xvpics",
        "lost+found",
        # network storage: Synology, QNAP, Nextcloud, Syncthing, Dropbox
        "#recycle",
        "#snapshot",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@tmp",
        ".@__thumb",
        ".@__qini",
        ".dropbox.cache",
        ".stfolder",
        ".stversions",
        ".sync",
        # picture managers: Picasa, digiKam, darktable and Lightroom write others, by suffix
        ".picasa.ini",
        ".picasaoriginals",
        "picasa.ini",
        # notebooks and version control
        ".git",
        ".ipynb_checkpoints",
        ".svn",
        "__pycache__",
    }
)
_PREFIXES = ("._", ".trash-", ".nfs", ".fuse_hidden", ".syncthing.", "~syncthing~")
_SUFFIXES = (".lrdata", ".lrprev", ".aplibrary.thumbnails")

OPTION = "--all-files"
"""The option of commands that takes these files too."""


def is_foreign(name: str) -> bool:
    """Return whether a file or folder of this name, without its path, is another program's and no picture of a user."""
    lower = name.lower()
    return lower in _NAMES or lower.startswith(_PREFIXES) or lower.endswith(_SUFFIXES)


def is_below_foreign(path: Path, root: Path) -> bool:
    """Return whether a path, or a folder between it and ``root``, is another program's."""
    return any(is_foreign(part) for part in path.relative_to(root).parts)


def passed_over(root: Path | str, files: int, examples: Iterable[str]) -> str:
    """Return the sentence that says how many files below ``root`` are passed over.

    Args:
        root: The folder that was searched.
        files: Number of files.
        examples: Names of such files and folders, the first of which is shown.
    """
    example = next(iter(examples), "")
    are = "file that another program left is" if files == 1 else "files that other programs left are"
    return f"{root}: {files} {are} passed over (such as {example}); {OPTION} takes them"
