"""The control groups that this process is in, as a container or a service manager has made them (cgroups(7))."""

from collections.abc import Iterator
from pathlib import Path

_OWN, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def read_groups(controller: str, *names: str) -> Iterator[list[str]]:
    """Yield the words of a setting in each group that this process is in, the innermost first; nothing without groups.

    Args:
        controller: Name of the controller, cpu or memory.
        names: Files of the setting; all must exist, and their words are joined.
    """
    for folder in _folders(controller):
        try:
            yield [word for name in names for word in (folder / name).read_text(encoding="ascii").split()]
        except (OSError, ValueError):  # not set here, or of the other version
            continue


def _folders(controller: str) -> Iterator[Path]:
    try:
        lines = _OWN.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _GROUPS / controller if controllers else _GROUPS  # version 1, or 2
        group = root / path.lstrip("/")
        yield from [group, *(folder for folder in group.parents if folder.is_relative_to(root))]
