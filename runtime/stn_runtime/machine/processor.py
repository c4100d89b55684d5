"""The processor and the board: their names, features and throttling, where Linux tells."""

import platform
import re
import sys
from pathlib import Path

_ROOT = Path("/")


def cpu_name(root: Path = _ROOT) -> str:
    """Return the processor's name, on a single-board computer after the board's; at least the architecture.

    Args:
        root: Folder that holds ``proc`` and ``sys``.
    """
    match = re.search(r"^model name\s*:\s*(\S.*)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    name = match[1] if match else platform.processor() or platform.machine()
    return f"{board(root)}, {name}" if board(root) else name


def board(root: Path = _ROOT) -> str:
    """Return the name of a single-board computer, such as Raspberry Pi 4 Model B Rev 1.4; empty on others."""
    return _read(root / "proc/device-tree/model").rstrip("\0")


def processor_flags(root: Path = _ROOT) -> frozenset[str]:
    """Return the processor's features by the names of the Linux kernel, such as avx2 or sme; empty elsewhere."""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def throttling(root: Path = _ROOT) -> str | None:
    """Return a Raspberry Pi's report that power or heat slows it down or has done so; None where there is none."""
    if sys.platform != "linux":
        return None
    for path in (root / "sys/devices/platform").glob("soc*/soc*:firmware/get_throttled"):
        flags = int(_read(path) or "0", 16)
        if flags:
            return f"this Raspberry Pi was slowed down by heat or low voltage (get_throttled 0x{flags:x})"
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
