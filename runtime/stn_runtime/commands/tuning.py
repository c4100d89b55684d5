"""How many threads a model is fastest with on this machine."""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..machine.cpus import usable_cpus
from ..model.network import Network

_WORTHWHILE = 0.95  # more threads must take less than this share of the time of fewer


def tuned_threads(
    model: Path, providers: Sequence[str] | None, *, rounds: int = 15, pause_seconds: float = 0.06
) -> int:
    """Return the number of threads with which a model answers one picture fastest.

    Args:
        model: The model file.
        providers: Execution providers of the network; None chooses.
        rounds: Each number of threads is measured this often, in turns.
        pause_seconds: The threads of one network fall asleep in this time, before the next is measured.

    Raises:
        ModelContractError: The file cannot be used.
    """
    cpus = usable_cpus()
    counts = sorted({1, cpus} | {count for count in (2, 3, 4, 6, 8) if count < cpus})
    networks = {count: Network(model, threads=count, providers=providers, spin=False) for count in counts}
    spec = networks[1].manifest.preprocess
    picture = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, spec.channels), np.uint8)
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count, network in networks.items():
            time.sleep(pause_seconds)
            network.run(picture)
            started = time.perf_counter()
            network.run(picture)
            seconds[count].append(time.perf_counter() - started)
    return worthwhile_threads({count: statistics.median(measured) for count, measured in seconds.items()})


def worthwhile_threads(seconds: Mapping[int, float]) -> int:
    """Return the fastest number of threads, fewer where more save less than a twentieth of the time.

    Args:
        seconds: Median time of a picture by number of threads; the least number is the first choice.
    """
    best, *others = sorted(seconds)
    for threads in others:
        if seconds[threads] < _WORTHWHILE * seconds[best]:
            best = threads
    return best
