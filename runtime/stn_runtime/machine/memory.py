"""How much memory this machine or its container has, and how much this process holds."""

import functools
import os
import re
import sys
from pathlib import Path

from .control_groups import read_groups

_UNKNOWN = 4 << 30


@functools.cache
def usable_memory() -> int:
    """Return the machine's memory in bytes, or a control group's limit where that is less."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a Unix
        memory = _UNKNOWN
    limits = [*read_groups("memory", "memory.max"), *read_groups("memory", "memory.limit_in_bytes")]
    return min([memory, *(int(word) for words in limits for word in words if word.isdecimal())])  # not 'max'


def free_memory() -> int:
    """Return the bytes that programs may still take, no more than ``usable_memory``; all of it where unknown."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux
        return usable_memory()
    available = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return min(usable_memory(), int(available[1]) << 10) if available else usable_memory()


def held_memory() -> int | None:
    """Return the bytes that this process holds, on macOS the most it has held; None where the system does not say."""
    if sys.platform == "linux":
        try:
            pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        except OSError:
            return None
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
