"""How much memory this machine or its container has."""

import functools
import os

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
