"""How many threads a model is fastest with on this machine: measured once, then remembered."""

import hashlib
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from ..machine.cpus import usable_cpus
from ..machine.filesystem import write_whole
from .network import Network

log = logging.getLogger(__name__)

_ROUNDS = 15
_PAUSE_SECONDS = 0.06  # in which the threads of one contender fall asleep, before the next is measured
_WORTH = 0.95  # more threads must take at most so much of the time of fewer


def tuned_threads(model: Path, providers: Sequence[str] | None) -> int:
    """Return the number of threads with which a model answers one picture fastest; fewer where more gain little.

    Args:
        model: The model file.
        providers: Execution providers of the network; None chooses.

    Raises:
        ModelContractError: The file cannot be used.
    """
    key = _key(model, providers)
    known = _read()
    if isinstance(known.get(key), int) and 1 <= known[key] <= usable_cpus():
        return known[key]
    taken = _measured(model, providers)
    best = 1
    for threads in sorted(taken):
        if taken[threads] < _WORTH * taken[best]:
            best = threads
    _write(known | {key: best})
    return best


def cache_file() -> Path:
    """Return where the results are remembered (XDG Base Directory Specification).

    Raises:
        FileNotFoundError: There is no place for it.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification says to ignore a relative one
        try:
            base = str(Path.home() / ".cache")
        except RuntimeError as error:
            raise FileNotFoundError("this user has no home") from error
    return Path(base, "stn-edge", "threads.json")


def _measured(model: Path, providers: Sequence[str] | None) -> dict[int, float]:
    """Return the median time of a picture by number of threads, measured in turns."""
    cpus = usable_cpus()
    counts = sorted({1, cpus} | {count for count in (2, 3, 4, 6, 8) if count < cpus})
    networks = {count: Network(model, threads=count, providers=providers, spin=False) for count in counts}
    spec = networks[1].manifest.preprocess
    picture = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, spec.channels), np.uint8)
    times: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(_ROUNDS):
        for count, network in networks.items():
            time.sleep(_PAUSE_SECONDS)
            network.run(picture)
            started = time.perf_counter()
            network.run(picture)
            times[count].append(time.perf_counter() - started)
    return {count: statistics.median(taken) for count, taken in times.items()}


def _key(model: Path, providers: Sequence[str] | None) -> str:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    parts = (
        digest,
        platform.node(),
        platform.machine(),
        str(usable_cpus()),
        ort.__version__,
        str(providers),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read() -> dict[str, int]:
    try:
        found = json.loads(cache_file().read_text(encoding="ascii"))
    except (OSError, ValueError):  # none yet, or cut by a loss of power: measured again
        return {}
    return found if isinstance(found, dict) else {}


def _write(found: dict[str, int]) -> None:
    try:
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(found).encode("ascii"))
    except OSError as error:  # a read-only system: measured at every start
        log.warning("the number of threads cannot be remembered (%s): it is measured at every start", error)
