"""The time from nothing to a first label, and the memory for it, in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..machine.interpreter import python_command

_CHILD = "from stn_runtime.bench.cold_start import main; main()"


@dataclass(frozen=True)
class ColdStart:
    """One start, milliseconds, in the order of its parts.

    Attributes:
        start_ms: Time until Python runs our code.
        import_ms: All that ``stn run`` imports.
        open_ms: The model file.
        first_ms: The first picture: decode, resize, infer.
        whole_ms: Time from the start of the process to the label.
        peak_memory_bytes: Most memory that the process held; None where the system does not say.
    """

    start_ms: float
    import_ms: float
    open_ms: float
    first_ms: float
    whole_ms: float
    peak_memory_bytes: int | None


def measure_cold_start(
    model: Path, picture: Path, *, threads: int | None = None, providers: Sequence[str] | None = None
) -> ColdStart:
    """Start a process that labels one picture.

    Raises:
        InputError: It ends without a label, for want of memory perhaps.
    """
    task = {"model": str(model), "picture": str(picture), "threads": threads, "providers": providers}
    command = python_command(_CHILD, repr(time.monotonic()), json.dumps(task))
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(
            f"{model}: a new process ended with status {done.returncode} before its first label ({reason})"
        )
    return ColdStart(**json.loads(done.stdout))


def peak_memory() -> int | None:
    """Return the most memory that this process has held since it began, bytes; None where the system does not say."""
    if sys.platform == "linux":  # whose ru_maxrss goes on counting from the parent's memory before the exec
        try:
            lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return None
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def _label_one(spawned: float, task: dict[str, Any]) -> ColdStart:
    started = time.monotonic()
    from .. import cli  # noqa: F401  (the imports of 'stn run' are what is timed)
    from ..commands import run  # noqa: F401
    from ..model.classifier import Classifier
    from .timing import label

    imported = time.monotonic()
    classifier = Classifier(task["model"], threads=task["threads"], providers=task["providers"])
    opened = time.monotonic()
    label(Path(task["picture"]), classifier)
    done = time.monotonic()
    return ColdStart(
        start_ms=1000 * (started - spawned),
        import_ms=1000 * (imported - started),
        open_ms=1000 * (opened - imported),
        first_ms=1000 * (done - opened),
        whole_ms=1000 * (done - spawned),
        peak_memory_bytes=peak_memory(),
    )


def main() -> None:
    """Label one picture, as ``measure_cold_start`` says on the command line; print a ``ColdStart`` as JSON."""
    sys.stdout.write(json.dumps(vars(_label_one(float(sys.argv[1]), json.loads(sys.argv[2])))))
