"""What figures were measured on: processor, its state, versions of what took part."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .cpus import usable_cpus

_CPU_INFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_PLATFORM = Path("/sys/devices/platform")
_THROTTLED = "soc*/soc*:firmware/get_throttled"  # a Raspberry Pi's
_BUSY = 0.25  # of the machine's CPUs


@dataclass(frozen=True)
class Host:
    """The machine that was measured on, before it was.

    Attributes:
        cpu: Name of the processor or the board.
        system: Operating system and architecture.
        cpus: How many there are.
        usable_cpus: How many this process may use.
        load: Processes that ran or waited in the minute before; None where the system does not say.
        governor: What sets the CPU's frequency on Linux, such as ondemand; None where it is not known.
        versions: Versions of Python, of this package and of the packages that compute, by name.
    """

    cpu: str
    system: str
    cpus: int
    usable_cpus: int
    load: float | None
    governor: str | None
    versions: Mapping[str, str]

    @property
    def is_busy(self) -> bool:
        """Whether something else was running already."""
        return self.load is not None and self.load > _BUSY * self.cpus


def this_host(engines: Mapping[str, str]) -> Host:
    """Return what is known of this machine now, with the versions of the packages that compute."""
    return Host(
        cpu_name(),
        f"{platform.system()}, {platform.machine()}",
        os.cpu_count() or 1,
        usable_cpus(),
        round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        _text(_GOVERNOR),
        {
            "stn-edge": metadata.version("stn-edge"),
            **engines,
            "Python": platform.python_version(),
        },
    )


def cpu_name() -> str:
    """Return the processor's name, on an ARM board the board's, or at least its architecture."""
    lines = (line.partition(":") for line in (_text(_CPU_INFO) or "").splitlines())
    found = {key.strip(): value.strip() for key, _, value in lines}
    return found.get("model name") or found.get("Model") or platform.processor() or platform.machine()


def throttling() -> str | None:
    """Return a Raspberry Pi's report that power or heat slows it down or has done so; None where there is none."""
    for path in _PLATFORM.glob(_THROTTLED) if sys.platform == "linux" else ():
        flags = int(_text(path) or "0", 16)
        if flags:
            return f"this Raspberry Pi was slowed down by heat or low voltage (get_throttled 0x{flags:x})"
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
