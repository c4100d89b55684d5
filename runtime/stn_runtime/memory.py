"""How much memory this machine has, or its container."""

import functools
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_LIMITS = (_GROUPS / "memory.max", _GROUPS / "memory/memory.limit_in_bytes")
_UNKNOWN = 4 << 30


@functools.cache
def usable_memory() -> int:
    """Return the machine's memory in bytes, or its control group's limit where that is less."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a Unix
        memory = _UNKNOWN
    for file in _LIMITS:
        try:
            memory = min(memory, int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such group, or 'max'
            continue
    return memory
