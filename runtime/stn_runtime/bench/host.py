"""The machine that figures were measured on: processor, its state, versions of the packages that compute."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..machine.cpus import usable_cpus
from ..machine.processor import cpu_name

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
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
        _governor(),
        {
            "stn-edge": metadata.version("stn-edge"),
            **engines,
            "Python": platform.python_version(),
        },
    )


def _governor() -> str | None:
    try:
        return _GOVERNOR.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
