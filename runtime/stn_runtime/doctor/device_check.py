"""What this device is, and what it lacks: Python, processor, memory, display, extras, each as one finding."""

import os
import platform
import re
import struct
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from ..machine.memory import usable_memory
from ..machine.processor import cpu_name

State = Literal["ok", "note", "warning", "BROKEN"]
"""BROKEN: ``stn run`` cannot work; warning: something may go wrong; note: it matters only for some uses."""

_ENOUGH_MEMORY = 128 << 20  # 'stn run' with a released model takes 90 to 140 MB
_EXTRAS = ("serve", "train", "export")


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: What was looked at, such as onnxruntime.
        state: How it is.
        sentence: What was found.
        remedy: What mends it; empty where nothing needs to be.
    """

    name: str
    state: State
    sentence: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"\n{'':<24}{self.remedy}" if self.remedy else ""
        return f"{self.state:<7}  {self.name:<13}{self.sentence}{remedy}"


def check_python() -> Finding:
    """Return the version of Python and the system; 32 bits are too few for onnxruntime, whatever the kernel has."""
    bits = 8 * struct.calcsize("P")
    sentence = f"{platform.python_version()}, {bits}-bit, on {platform.machine()}, {_system()}"
    if bits < 64:
        return Finding(
            "python", "BROKEN", f"{sentence}: onnxruntime is made for 64 bits only", "install a 64-bit operating system"
        )
    if "musl" in str(sysconfig.get_config_var("SOABI")):
        return Finding(
            "python",
            "warning",
            f"{sentence}: there are no onnxruntime wheels for musl",
            "use a system with glibc, such as Debian, or the distribution's own onnxruntime",
        )
    return Finding("python", "ok", sentence)


def check_processor(usable: int | None, root: Path = Path("/")) -> Finding:
    """Return the processor and how much of it there is for us.

    Args:
        usable: Number of CPUs that onnxruntime uses; None when it is not known.
        root: Folder that holds ``proc``.
    """
    there = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    usable = usable or allowed
    cpus = f"{usable} CPU{'s' if usable > 1 else ''}"
    if usable < allowed:
        cpus += f" of {allowed}, by the container's CPU quota"
    elif allowed < there:
        cpus += f" of {there}, by the CPU set of this process"
    return Finding("processor", "ok", f"{cpu_name(root)}, {cpus}")


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


def check_display() -> Finding:
    """Return whether a window can be opened, which only ``--show`` needs; takes OpenCV."""
    from ..views.window import display_problem

    problem = display_problem()
    if problem:
        reason, _, remedy = problem.partition("; ")
        return Finding("display", "note", f"only --show needs one: {reason}", remedy)
    return Finding("display", "ok", "a window can be opened")


def check_extras() -> Finding:
    """Return which extras of the package are installed, judged by what each of them requires."""
    try:
        required = _requirements(metadata.requires("stn-edge") or [])
    except metadata.PackageNotFoundError:
        return Finding("extras", "note", "not known: stn-edge runs from its source folder and is not installed")
    there = [extra for extra, names in required.items() if all(map(_is_installed, names))]
    lacking = [extra for extra in required if extra not in there]
    sentence = f"installed: {', '.join(there) or 'none'}"
    if lacking:
        sentence += f"; not installed: {', '.join(lacking)} (pip install 'stn-edge[{lacking[0]}]')"
    return Finding("extras", "note", sentence)


def _system() -> str:
    if sys.platform != "linux":
        return f"{platform.system()} {platform.release()}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"Linux {platform.release()}"


def _requirements(lines: list[str]) -> Mapping[str, list[str]]:
    """Return the distributions that each extra adds, from lines such as ``torch>=2.6; extra == 'train'``."""
    required: dict[str, list[str]] = {extra: [] for extra in _EXTRAS}
    for line in lines:
        found = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line)
        if found and found.group(2) in _EXTRAS:
            required[found.group(2)].append(found.group(1))
    return {extra: names for extra, names in required.items() if names}


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
