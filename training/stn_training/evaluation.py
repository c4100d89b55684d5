"""Measuring a checkpoint or an exported file on labelled images: the same data, the same preprocessing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix
from torch import nn
from tqdm import tqdm

from stn_models import CheckpointError, SpatialTransformer, injected_thetas, load_checkpoint
from stn_runtime import Classifier, InputError, PreprocessSpec
from stn_runtime.errors import printable
from stn_runtime.model.manifest import read_preprocess

from .config import BENCHMARKS, check_channels
from .data_module import rendered, to_float
from .datasets import LabelledImages, load_dataset
from .distortions import DIGIT_SIZE, parse_mixture

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A function that maps preprocessed pictures (N, H, W, C) to probabilities (N, K)."""

_BATCH = 200
_LONGEST_NAME = 60  # characters of a label in a table


@dataclass(frozen=True)
class Subject:
    """The model to measure: a checkpoint in PyTorch or an exported file in onnxruntime."""

    path: Path
    labels: tuple[str, ...]
    spec: PreprocessSpec
    predict: Predict
    network: nn.Module | None  # None for an exported file


@dataclass(frozen=True)
class Report:
    """Accuracy and confusion of a model on labelled images.

    Attributes:
        accuracy: Share of images whose most probable label is right.
        confusion: Counts (K, K), rows true, columns predicted.
        predicted: Index of the most probable label of each image, (N,).
        classes: Names of the labels.
    """

    accuracy: float
    confusion: NDArray[np.int64]
    predicted: NDArray[np.int64]
    classes: tuple[str, ...]

    def table(self) -> str:
        """Return a line for each class: its number of images, recall, precision."""
        names = [printable(name, _LONGEST_NAME) for name in self.classes]
        width = max(5, *map(len, names))
        right, true, predicted = np.diag(self.confusion), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        lines = [f"{'class':<{width}}  images  recall  precision"]
        for index, name in enumerate(names):
            recall = f"{right[index] / true[index]:.2%}" if true[index] else "-"
            precision = f"{right[index] / predicted[index]:.2%}" if predicted[index] else "-"
            lines.append(f"{name:<{width}}  {true[index]:>6}  {recall:>6}  {precision:>9}")
        lines.append(f"accuracy {self.accuracy:.2%} on {len(self.predicted)} images")
        return "\n".join(lines)


def open_subject(path: str) -> Subject:
    """Return a checkpoint (.safetensors), or an exported model by file or released name, ready to predict.

    Raises:
        InputError: The file is missing, damaged or no model.
    """
    if not path.endswith(".safetensors"):
        classifier = Classifier(path)
        manifest = classifier.manifest
        return Subject(
            classifier.path,
            manifest.labels,
            manifest.preprocess,
            lambda batch: classifier.run(batch)["probabilities"].astype(np.float32),
            None,
        )
    try:
        network, described = load_checkpoint(Path(path))
    except CheckpointError as error:
        raise InputError(str(error)) from error

    def predict(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = network(to_float(torch.from_numpy(batch))).softmax(dim=-1).numpy()
        return probabilities

    return Subject(Path(path), described.labels, read_preprocess(described.preprocess, path), predict, network)


def load_test_images(
    data: str,
    split: str,
    distort: str,
    spec: PreprocessSpec,
    data_dir: Path,
    seed: int,
    most: int | None = None,
    all_files: bool = False,
) -> LabelledImages:
    """Return labelled images as the network takes them; at most ``most``, evenly spaced over the data set.

    Raises:
        InputError: The data cannot be used or the distortion is unknown.
    """
    try:
        mixture = parse_mixture(distort) if distort else ()
    except ValueError as error:
        raise InputError(str(error)) from error
    check_channels(mixture, spec.channels)
    if mixture:
        source: PreprocessSpec | None = replace(spec, height=DIGIT_SIZE, width=DIGIT_SIZE)
    else:
        source = None if data in BENCHMARKS else spec
    loaded = load_dataset(data, split, source, data_dir, all_files)
    if most is not None and len(loaded) > most:
        loaded = loaded.select(torch.linspace(0, len(loaded) - 1, most).long())
    return rendered(loaded, mixture, spec, seed)


def evaluate(subject: Subject, data: LabelledImages) -> Report:
    """Measure ``subject`` on images that are ready for it.

    Raises:
        InputError: The data have a class that the model does not know.
    """
    unknown = [name for name in data.classes if name not in subject.labels]
    if unknown:
        raise InputError(
            f"{data.source}: class '{unknown[0]}' is not one of the model's: {', '.join(subject.labels[:20])}"
        )
    true = np.array([subject.labels.index(name) for name in data.classes])[data.labels.numpy()]
    parts = [
        subject.predict(batch.numpy()).argmax(axis=1)
        for batch in tqdm(torch.split(data.images, _BATCH), "evaluating", unit=" batches", leave=False, disable=None)
    ]
    predicted = np.concatenate(parts)
    confusion = confusion_matrix(true, predicted, labels=range(len(subject.labels)))
    return Report(float((true == predicted).mean()), confusion, predicted, subject.labels)


def evaluate_at_identity(subject: Subject, data: LabelledImages) -> Report | None:
    """Measure a checkpoint with its transformers switched off, theta set to the identity; None if it has none.

    The difference in accuracy is what the transformers contribute.
    """
    network = subject.network
    if network is None or not any(isinstance(module, SpatialTransformer) for module in network.modules()):
        return None
    with injected_thetas(network):
        return evaluate(subject, data)
