"""Measuring a checkpoint or an exported file on labelled images: the same data, the same preprocessing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix
from torch import nn
from tqdm import tqdm

from stn_models import CheckpointError, SpatialTransformer, held_at_identity, load_checkpoint, make_grid
from stn_runtime import InputError, PreprocessSpec, TransformerSpec
from stn_runtime.errors import printable
from stn_runtime.model.manifest import read_preprocess
from stn_runtime.model.network import Network
from stn_runtime.model.sequences import best_labels, share_right
from stn_runtime.model.zoo import find_model

from ..config import ANY_SIZE, BENCHMARKS, check_channels
from ..data.data_module import rendered, to_float
from ..data.datasets import TYPEFACES, load_dataset
from ..data.distortions import DIGIT_SIZE, parse_mixture
from ..data.labelled_images import LabelledImages
from ..data.listing import AS_THEY_ARE, FileOptions

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A function that maps preprocessed pictures (N, H, W, C) to probabilities (N, K), or of texts (N, D, K)."""

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
    predict_at_identity: Predict | None = None  # None where it has no transformer, or theta cannot be held
    reject: str | None = None  # the label that means none of the others
    end: str | None = None  # the label behind the last character of a text; None where a picture has one label


@dataclass(frozen=True)
class Report:
    """Accuracy and confusion of a model on labelled images.

    Attributes:
        accuracy: Share of images whose answer is right, of a text in all its characters.
        confusion: Counts (K, K), rows true, columns predicted; of texts, of the characters at each position
            up to the end of the longer one.
        predicted: Index of the most probable label of each image, (N,); those of the most probable text, (N, D).
        classes: Names of the labels.
        end: Index of the label behind the last character of a text; None where a picture has one label.
    """

    accuracy: float
    confusion: NDArray[np.int64]
    predicted: NDArray[np.int64]
    classes: tuple[str, ...]
    end: int | None = None

    def table(self) -> str:
        """Return a line for each class: its number of images, recall, precision."""
        names = [printable(name, _LONGEST_NAME) for name in self.classes]
        width = max(5, *map(len, names))
        right, true, predicted = np.diag(self.confusion), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        lines = [f"{'class':<{width}}  images  recall  precision"]
        for index, name in enumerate(names):
            if index == self.end:  # counted only where it stands in the wrong place
                continue
            recall = f"{right[index] / true[index]:.2%}" if true[index] else "-"
            precision = f"{right[index] / predicted[index]:.2%}" if predicted[index] else "-"
            lines.append(f"{name:<{width}}  {true[index]:>6}  {recall:>6}  {precision:>9}")
        lines.append(f"accuracy {self.accuracy:.2%} on {len(self.predicted)} images")
        if self.predicted.ndim == 2:
            lines[-1] += f", all characters of each; {right.sum() / max(true.sum(), 1):.2%} of the characters"
        return "\n".join(lines)


def open_subject(path: str) -> Subject:
    """Return a checkpoint (.safetensors), or an exported model by file or released name, ready to predict.

    Raises:
        InputError: The file is missing, damaged or no model.
    """
    checkpoint = Path(path) / "model.safetensors"
    if checkpoint.is_file():
        raise InputError(f"{path}: is a run's folder; give its checkpoint, {checkpoint}")
    return _open_checkpoint(Path(path)) if path.endswith(".safetensors") else _open_exported(path)


def _open_exported(path: str) -> Subject:
    network = Network(find_model(path), threads=torch.get_num_threads())
    manifest = network.manifest
    grids = [_identity_grid(transformer) for transformer in manifest.transformers]

    def predict(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return network.run(batch)["probabilities"].astype(np.float32)

    def predict_at_identity(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return network.run(batch, grids=grids)["probabilities"].astype(np.float32)

    held = predict_at_identity if manifest.export.form == "split" else None
    end = manifest.sequence.end if manifest.sequence is not None else None
    return Subject(find_model(path), manifest.labels, manifest.preprocess, predict, None, held, manifest.reject, end)


def _identity_grid(transformer: TransformerSpec) -> NDArray[np.float32]:
    grid = make_grid(transformer.grid, transformer.output_size, transformer.align_corners)
    points: NDArray[np.float32] = grid(grid.identity()[None])[0].numpy()
    return points


def _open_checkpoint(path: Path) -> Subject:
    try:
        network, described = load_checkpoint(path)
    except CheckpointError as error:
        raise InputError(str(error)) from error

    def predict(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = network(to_float(torch.from_numpy(batch))).softmax(dim=-1).numpy()
        return probabilities

    def predict_at_identity(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with held_at_identity(network):
            return predict(batch)

    has_transformer = any(isinstance(module, SpatialTransformer) for module in network.modules())
    spec = read_preprocess(described.preprocess, str(path))
    held = predict_at_identity if has_transformer else None
    return Subject(path, described.labels, spec, predict, network, held, described.reject, described.end)


def load_test_images(
    data: str,
    split: str,
    distort: str,
    spec: PreprocessSpec,
    data_dir: Path,
    seed: int,
    most: int | None = None,
    files: FileOptions = AS_THEY_ARE,
    reject: str | None = None,
    typefaces: Path = TYPEFACES,
) -> LabelledImages:
    """Return labelled images as the network takes them; at most ``most``, evenly spaced over the data set.

    ``reject`` is the model's class that means none of the others: where ``distort`` makes scenes, its have no digit.

    Raises:
        InputError: The data cannot be used or the distortion is unknown.
    """
    try:
        mixture = parse_mixture(distort) if distort else ()
    except ValueError as error:
        raise InputError(str(error)) from error
    check_channels(mixture, spec.channels)
    if data == "digits" or (data in BENCHMARKS and data not in ANY_SIZE and not mixture):
        source: PreprocessSpec | None = None
    else:
        source = replace(spec, height=DIGIT_SIZE, width=DIGIT_SIZE) if mixture else spec
    loaded = load_dataset(data, split, source, data_dir, files, typefaces)
    if reject in loaded.classes:
        loaded = replace(loaded, reject=loaded.classes.index(reject))
    return rendered(loaded if most is None else spaced(loaded, most), mixture, spec, seed)


def files_of(checkpoint: Path, data: str, given: FileOptions) -> FileOptions:
    """Return which files to measure a model on: as given, and where nothing is given, as its training took them.

    Args:
        checkpoint: The model; what is no checkpoint says nothing about its training.
        data: Data to measure on; only those of the training itself are split as it split them.
        given: Options of the user.
    """
    if checkpoint.suffix != ".safetensors":
        return given
    trained = load_checkpoint(checkpoint)[1].training.get("config")
    if not isinstance(trained, Mapping) or Path(str(trained.get("data"))).resolve() != Path(data).resolve():
        return given
    group, names = (str(trained.get(name) or "") for name in ("group", "class_names"))
    return replace(given, group=given.group or group, class_names=given.class_names or names)


def spaced(data: LabelledImages, most: int) -> LabelledImages:
    """Return at most ``most`` of labelled images, evenly spaced, so that folders sorted by class keep every class."""
    return data if len(data) <= most else data.select(torch.linspace(0, len(data) - 1, most).long())


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
    if (subject.end is None) != (data.end is None):
        spells, shows = ("spells texts", "one label") if data.end is None else ("gives one label", "a text")
        raise InputError(f"{subject.path}: {spells}, but a picture of {data.source} has {shows}")
    true = np.array([subject.labels.index(name) for name in data.classes])[data.labels.numpy()]
    end = None if subject.end is None else subject.labels.index(subject.end)
    parts = [
        best_labels(subject.predict(batch.numpy()), end)
        for batch in tqdm(torch.split(data.images, _BATCH), "evaluating", unit=" batches", leave=False, disable=None)
    ]
    predicted = np.concatenate(parts)
    if predicted.shape != true.shape:
        raise InputError(
            f"{subject.path}: spells {predicted.shape[1]} characters, the texts of {data.source} have {true.shape[1]}"
        )
    counts = np.ones(true.shape, bool) if end is None else (true != end) | (predicted != end)  # behind both is nothing
    confusion = confusion_matrix(true[counts], predicted[counts], labels=range(len(subject.labels)))
    return Report(share_right(predicted, true), confusion, predicted, subject.labels, end)


def evaluate_at_identity(subject: Subject, data: LabelledImages) -> Report | None:
    """Measure a model with its transformers switched off, theta set to the identity.

    The difference in accuracy is what the transformers contribute. None for a model without one, and for an exported
    file in which theta cannot be set from outside: in the split form it can.
    """
    held = subject.predict_at_identity
    return None if held is None else evaluate(replace(subject, predict=held), data)
