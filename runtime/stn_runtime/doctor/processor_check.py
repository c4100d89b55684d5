"""The processor, and how many of its CPUs this process may use."""

import os
from pathlib import Path

from ..machine.processor import cpu_name
from .finding import Finding


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
