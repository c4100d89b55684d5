"""How much memory there is."""

import re
from collections.abc import Iterator
from pathlib import Path

from ..machine.memory import usable_memory
from .finding import Finding

_ENOUGH_MEMORY = 128 << 20  # 'stn run' with a released model takes 90 to 140 MB


def check_memory(root: Path = Path("/"), limit: int | None = None) -> Iterator[Finding]:
    """Yield how much memory there is, where the system tells.

    Args:
        root: Folder that holds ``proc``.
        limit: Bytes that this process may use; None asks the system.
    """
    try:
        fields = dict(
            re.findall(r"^(\w+):\s+(\d+) kB", (root / "proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
        )
        total, free = int(fields["MemTotal"]) << 10, int(fields["MemAvailable"]) << 10
    except (OSError, KeyError):
        return
    limit = usable_memory() if limit is None else limit
    sentence = f"{total / (1 << 30):.1f} GiB, {free / (1 << 30):.1f} free"
    if limit < total:
        sentence += f"; this process may use {limit / (1 << 30):.1f}"
    if min(free, limit) < _ENOUGH_MEMORY:
        yield Finding("memory", "warning", sentence, "end other programs: below 128 MiB a run may be killed")
    else:
        yield Finding("memory", "ok", sentence)
