"""Which engine and how many threads a model is fastest with on this machine; the winner is remembered."""

import hashlib
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tqdm import tqdm

from ..errors import InputError
from ..machine.cpus import usable_cpus
from ..machine.filesystem import cache_folder, write_whole
from ..machine.processor import cpu_name
from ..model.golden import replay
from ..model.network import Network

Engine = tuple[tuple[str, ...], int]
"""Execution providers, and the number of their threads."""

_CPU = "CPUExecutionProvider"
_COUNTS_THREADS = (_CPU, "OpenVINOExecutionProvider")
_NOT_TRIED = ("AzureExecutionProvider", "TensorrtExecutionProvider")  # sends pictures away; compiles for minutes
_WORTHWHILE = 0.95  # another setup must take less than this share of the time of one before it


@dataclass(frozen=True)
class Setup:
    """An engine with a number of threads, and how fast it was.

    Attributes:
        providers: The execution providers, the preferred one first.
        threads: Number of their threads.
        ms: Median time of one picture, milliseconds.
        measured: Day of the measurement, as 2026-12-01.
    """

    providers: tuple[str, ...]
    threads: int
    ms: float
    measured: str

    def __str__(self) -> str:
        return f"--providers {' '.join(self.providers)} --threads {self.threads} ({self.ms:.2f} ms a picture)"


@dataclass(frozen=True)
class Tuning:
    """What was measured.

    Attributes:
        setups: Every setup that was measured, of the CPU first, fewer threads first.
        refused: Why a provider was not measured, by its name.
    """

    setups: tuple[Setup, ...]
    refused: Mapping[str, str]

    @property
    def best(self) -> Setup:
        """The fastest setup; an earlier one where a later saves less than a twentieth of its time."""
        best, *others = self.setups
        for setup in others:
            if setup.ms < _WORTHWHILE * best.ms:
                best = setup
        return best


def tuned(model: Path, providers: Sequence[str] | None) -> Setup:
    """Return the fastest setup for a model here: the remembered one, or what a measurement of some seconds gives.

    Args:
        model: The model file.
        providers: Execution providers to use; None tries those that are here.

    Raises:
        ModelContractError: The file cannot be used.
        InputError: A provider that was named is not available.
    """
    return remembered(model, providers) or measure_setups(model, providers).best


def measure_setups(
    model: Path, providers: Sequence[str] | None, *, rounds: int = 15, pause_seconds: float = 0.06
) -> Tuning:
    """Measure a model with each engine that is here and sensible numbers of threads, and remember the winner.

    An engine other than the CPU's must answer the file's golden vectors as recorded.

    Args:
        model: The model file.
        providers: Execution providers to use; None tries those that are here, each alone.
        rounds: Each setup is measured this often, in turns.
        pause_seconds: The threads of one network fall asleep in this time, before the next is measured.

    Raises:
        ModelContractError: The file cannot be used.
        InputError: A provider that was named is not available.
    """
    networks: dict[Engine, Network] = {}
    refused: dict[str, str] = {}
    if providers is not None:
        networks = _opened(model, tuple(providers))
    for provider in _here() if providers is None else ():
        try:
            networks |= _opened(model, (provider,))
        except InputError as error:
            if provider == _CPU:
                raise
            refused[provider] = str(error)
    times = _timed(networks, rounds, pause_seconds)
    today = date.today().isoformat()
    setups = [Setup(*key, statistics.median(seconds) * 1000, today) for key, seconds in times.items()]
    tuning = Tuning(tuple(setups), refused)
    _remember(model, providers, tuning.best)
    return tuning


def remembered(model: Path, providers: Sequence[str] | None) -> Setup | None:
    """Return the winner of an earlier measurement of this file on this machine; None where there is none.

    Another processor, set of CPUs, version of onnxruntime or provider is another machine.
    """
    try:
        winner = json.loads(_winners().read_bytes())[_key(model, providers)]
        return Setup(tuple(winner["providers"]), int(winner["threads"]), float(winner["ms"]), str(winner["measured"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _here() -> Iterator[str]:
    """Yield the providers to try, the CPU's first."""
    yield _CPU
    yield from (name for name in ort.get_available_providers() if name not in (_CPU, *_NOT_TRIED))


def _opened(model: Path, providers: tuple[str, ...]) -> dict[Engine, Network]:
    """Return the model opened with an engine, once for each number of threads to try.

    Raises:
        InputError: It cannot be opened so, or answers otherwise than recorded.
    """
    cpus = usable_cpus()
    counts = sorted({1, cpus} | {count for count in (2, 3, 4, 6, 8) if count < cpus})
    if providers[:1] and providers[0] not in _COUNTS_THREADS:
        counts = [cpus]  # another processor computes
    networks = {(providers, count): Network(model, threads=count, providers=providers, spin=False) for count in counts}
    if providers != (_CPU,) and not replay(networks[providers, counts[0]]).passed:
        raise InputError(
            f"{model}: {providers[0]} does not answer as recorded; see 'stn verify {model} --providers {providers[0]}'"
        )
    return networks


def _timed(networks: Mapping[Engine, Network], rounds: int, pause_seconds: float) -> dict[Engine, list[float]]:
    spec = next(iter(networks.values())).manifest.preprocess
    picture = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, spec.channels), np.uint8)
    seconds: dict[Engine, list[float]] = {key: [] for key in networks}
    for _ in tqdm(range(rounds), "engines and threads", leave=False, disable=None):
        for key, network in networks.items():
            time.sleep(pause_seconds)
            network.run(picture)
            started = time.perf_counter()
            network.run(picture)
            seconds[key].append(time.perf_counter() - started)
    return seconds


def _remember(model: Path, providers: Sequence[str] | None, best: Setup) -> None:
    try:
        winners = json.loads(_winners().read_bytes())
    except (OSError, ValueError):
        winners = {}
    winners = {**(winners if isinstance(winners, dict) else {}), _key(model, providers): asdict(best)}
    try:
        _winners().parent.mkdir(parents=True, exist_ok=True)
        write_whole(_winners(), json.dumps(winners, indent=1).encode())
    except OSError as error:
        sys.stderr.write(f"{_winners()}: cannot be written ({error.strerror or error}), so each run measures anew\n")


def _winners() -> Path:
    return cache_folder() / "fastest.json"


def _key(model: Path, providers: Sequence[str] | None) -> str:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    machine = [cpu_name(), usable_cpus(), ort.__version__, ort.get_available_providers()]
    return hashlib.sha256(json.dumps([digest, providers, machine]).encode()).hexdigest()
