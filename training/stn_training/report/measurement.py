"""What a report says: a run and its network measured on pictures that training did not see."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from stn_models import CheckpointError, load_checkpoint
from stn_runtime import InputError, Manifest
from stn_runtime.model.network import Network
from stn_runtime.model.sequences import best_sequences

from ..config import ANY_SIZE, BENCHMARKS, TrainConfig
from ..data.datasets import has_test, load_dataset
from ..data.duplicates import Twin, find_twins
from ..data.labelled_images import LabelledImages
from ..evaluation.ablation import Ablation, ablate
from ..evaluation.accuracy import Report, Subject, evaluate, evaluate_at_identity, load_test_images, open_subject
from ..evaluation.sweep import AXES, MOST_PICTURES, Point, sweep
from ..evaluation.thetas import Thetas, measure_thetas
from ..recipes import read_options
from ..recorder import BEST, METRICS

_BATCH = 200
_SWEEP_SECONDS = 90
_LEAST_SWEPT = 50
_COMPARED = 64  # pictures
_APART = {"float32": 1e-2, "float16": 0.1, "int8": 0.5}
"""Greatest difference of a probability between a checkpoint and its export, by precision."""
_OPTIMISM = 1.96  # standard deviations, for 95 of 100 cases


@dataclass(frozen=True)
class Run:
    """A training run as its folder keeps it.

    Attributes:
        folder: Its folder.
        config: Its settings.
        epochs: Columns of metrics.csv by name, a value an epoch; NaN where an epoch has none.
        best: Number of the epoch whose weights were kept.
    """

    folder: Path
    config: TrainConfig
    epochs: Mapping[str, NDArray[np.float64]]
    best: int

    @property
    def checkpoint(self) -> Path:
        """The file with the weights of the best epoch."""
        return self.folder / BEST

    def at_best(self, name: str) -> float:
        """Return the value of a column in the epoch that was kept; 0 where there is none."""
        values = self.epochs.get(name, np.array([]))
        known = self.best < len(values) and np.isfinite(values[self.best])
        return float(values[self.best]) if known else 0.0


@dataclass(frozen=True)
class Exported:
    """The file that was exported from a run's checkpoint."""

    path: Path
    size: int  # bytes
    manifest: Manifest
    apart: float  # greatest difference of a probability from PyTorch, on some of the measured pictures


@dataclass(frozen=True)
class Mistake:
    """A picture with a wrong answer.

    Attributes:
        index: Its place among the measured pictures.
        answer: The label or text that was given.
        confidence: Its probability, from 0 to 1.
    """

    index: int
    answer: str
    confidence: float


@dataclass(frozen=True)
class Findings:
    """All that a report says.

    Attributes:
        run: The run.
        subject: Its network.
        exported: The file made of it; None without one.
        split: Name of the part of the data that was measured.
        data: Its pictures, ready for the network.
        counts: Number of training pictures of each class, or of each length of text.
        report: Accuracy and confusion.
        identity: The same with theta at the identity; None for a network without a transformer.
        mistakes: Wrong answers, the most confident first.
        ablations: Accuracy and time in PyTorch and of the exported file.
        points: Accuracy on spoiled pictures.
        thetas: What each transformer does.
        twins: Measured pictures that look like one of training.
        threads: Threads that times were taken with.
    """

    run: Run
    subject: Subject
    exported: Exported | None
    split: str
    data: LabelledImages
    counts: Mapping[str, int]
    report: Report
    identity: Report | None
    mistakes: Sequence[Mistake]
    ablations: Sequence[Ablation]
    points: Sequence[Point]
    thetas: Sequence[Thetas]
    twins: Sequence[Twin]
    threads: int

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracies that the measured one speaks for in 95 of 100 cases (Wilson, 1927)."""
        count, share = len(self.report.predicted), self.report.accuracy
        square = _OPTIMISM**2
        middle = (share + square / (2 * count)) / (1 + square / count)
        half = _OPTIMISM / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
        return middle - half, middle + half


def read_run(folder: Path) -> Run:
    """Return a training run from its folder.

    Raises:
        InputError: The folder holds no run that has ended an epoch.
    """
    config_file = folder / "config.json"
    for path in (config_file, folder / METRICS, folder / BEST):
        if not path.is_file():
            raise InputError(f"{folder}: holds no training run that has ended an epoch (no {path.name})")
    config = TrainConfig.from_mapping(read_options(config_file), str(config_file))
    with (folder / METRICS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in (rows[0] if rows else ())}
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / METRICS}: is damaged ({error})") from error
    if not rows:
        raise InputError(f"{folder / METRICS}: has no epoch; train the run anew")
    try:
        best = load_checkpoint(folder / BEST)[1].training.get("epoch")
    except CheckpointError as error:
        raise InputError(str(error)) from error
    return Run(folder, config, columns, best if isinstance(best, int) else len(rows) - 1)


def open_exported(path: Path, subject: Subject, pictures: NDArray[np.uint8]) -> Exported:
    """Return an exported file.

    Args:
        path: The file.
        subject: The checkpoint that it is to be an export of.
        pictures: Some for both to answer, (N, H, W, C).

    Raises:
        InputError: It cannot be opened, or is not of the run's network.
    """
    network = Network(path)
    manifest = network.manifest
    if manifest.labels != subject.labels or manifest.preprocess != subject.spec:
        raise InputError(f"{path}: has other labels or another preprocessing than {subject.path}; export the run again")
    theirs, ours = network.run(pictures)["probabilities"].astype(np.float32), subject.predict(pictures)
    apart = float(np.abs(theirs - ours).max()) if theirs.shape == ours.shape else math.inf
    if apart > _APART[manifest.export.precision]:
        raise InputError(
            f"{path}: its probabilities are up to {apart:.2g} from those of {subject.path}, so it was not exported "
            "from it; export the run again"
        )
    return Exported(path, path.stat().st_size, manifest, apart)


def measure(run: Run, exported: Path | None, split: str | None = None) -> Findings:
    """Measure a run's network on the pictures of its data that are for testing, or where there are none, validation.

    Args:
        run: The run.
        exported: File made of its checkpoint; None without one.
        split: Part of the data in place of that.

    Raises:
        InputError: The data or the files cannot be used.
    """
    config, subject = run.config, open_subject(str(run.checkpoint))
    data, split = _pictures(run, subject, split)
    file = None if exported is None else open_exported(exported, subject, data.images[:_COMPARED].numpy())
    subjects = [subject] if exported is None else [subject, open_subject(str(exported))]
    own_size = config.data in BENCHMARKS and config.data not in ANY_SIZE
    spec = None if own_size else subject.spec
    train = load_dataset(config.data, "train", spec, Path(config.data_dir), config.files(), Path(config.typefaces))
    report = evaluate(subject, data)
    ablations = ablate(subjects, data)
    names, numbers = train.groups()
    counts = torch.bincount(numbers, minlength=len(names)).tolist()
    return Findings(
        run,
        subject,
        file,
        split,
        data,
        dict(zip(names, counts, strict=True)),
        report,
        evaluate_at_identity(subject, data),
        find_mistakes(subject, data, report),
        ablations,
        sweep(subjects[-1:], _few(data, ablations[-1]), config.seed),
        measure_thetas(subject.network, data) if subject.network is not None else [],
        find_twins(train, data) if data.paths else [],
        torch.get_num_threads(),
    )


def find_mistakes(subject: Subject, data: LabelledImages, report: Report) -> list[Mistake]:
    """Return the wrong answers, the most confident first."""
    probabilities = [
        subject.predict(batch.numpy())
        for batch in tqdm(torch.split(data.images, _BATCH), "mistakes", unit=" batches", leave=False, disable=None)
    ]
    values = np.concatenate(probabilities)
    end = None if subject.end is None else subject.labels.index(subject.end)
    confidence = values.max(axis=1) if end is None else best_sequences(values, end)[1]
    answers = [_spelled(subject, labels) for labels in report.predicted]
    wrong = [index for index, answer in enumerate(answers) if answer != data.answer(data.labels[index])]
    wrong.sort(key=lambda index: -float(confidence[index]))
    return [Mistake(index, answers[index], float(confidence[index])) for index in wrong]


def _spelled(subject: Subject, labels: NDArray[np.int64]) -> str:
    names = [subject.labels[label] for label in np.atleast_1d(labels)]
    return "".join(name for name in names if name != subject.end)


def _pictures(run: Run, subject: Subject, split: str | None) -> tuple[LabelledImages, str]:
    """Return the pictures to measure, and the part of the data that they are."""
    config = run.config

    def load(name: str) -> LabelledImages:
        return load_test_images(
            config.data, name, config.distort, subject.spec, Path(config.data_dir), config.seed, files=config.files(),
            reject=subject.reject, typefaces=Path(config.typefaces),
        )  # fmt: skip

    chosen = split or ("test" if has_test(config.data, Path(config.data_dir), config.files()) else "val")
    return load(chosen), chosen


def _few(data: LabelledImages, speed: Ablation) -> LabelledImages:
    """Return as many pictures as a sweep can take in its time, evenly spaced."""
    ways = 1 if speed.milliseconds_at_identity is None else 2
    steps = sum(len(axis.values) for axis in AXES.values())
    most = int(_SWEEP_SECONDS * 1000 / (steps * ways * max(speed.milliseconds, 1e-3)))
    count = min(len(data), max(_LEAST_SWEPT, min(most, MOST_PICTURES)))
    return data.select(torch.linspace(0, len(data) - 1, count).long())
