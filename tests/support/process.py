"""Processes that tests start: their signals as a shell starts them, their last words, and what they use, from /proc."""

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path


def default_signals() -> None:
    """Take signals as a program in the foreground does: nohup and background jobs hand ignored ones down."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def without_summary(errors: str | bytes) -> str:
    """Return what a run wrote to standard error without its rate and its labels, which depend on time and model."""
    text = errors if isinstance(errors, str) else errors.decode()
    return re.sub(r"(?m)^labels: .*\n", "", re.sub(r"(\d failed), [\d.]+ a second$", r"\1", text, flags=re.M))


@dataclass(frozen=True)
class Usage:
    """At one moment."""

    cpu_seconds: float  # since its start, of all its threads
    resident_mb: float
    threads: int
    open_files: int


def usage_of(pid: int) -> Usage:
    """Return what a process uses now.

    Raises:
        OSError: It has ended, or this is not Linux.
    """
    place = Path("/proc", str(pid))
    user, system = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    return Usage(
        cpu_seconds=(int(user) + int(system)) / os.sysconf("SC_CLK_TCK"),
        resident_mb=int(status["VmRSS"].split()[0]) / 1024,
        threads=int(status["Threads"]),
        open_files=len(list((place / "fd").iterdir())),
    )
