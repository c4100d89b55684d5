"""The classifier: pictures in, labels and what the spatial transformer did out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..images.preprocessing import Image, place, preprocess, seen_part
from ..images.reading import read_image
from .manifest import Manifest
from .network import Network
from .sequences import likely_sequences
from .warping import reach
from .zoo import DEFAULT_MODEL, find_model

Picture = Image | Path | str
"""An array, RGB or grey, or the path of an image file."""

Pictures = list[Image] | list[Path] | list[str]
"""Several of one kind, of any sizes."""


@dataclass(frozen=True)
class Score:
    """A label and its probability."""

    label: str
    probability: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of one picture.

    Attributes:
        label: The most probable label, also when it is the one that the manifest names as ``reject``.
        confidence: Its probability.
        top: The most probable labels, best first; of a network that spells texts, the most probable texts.
        theta: Parameters of all transformers, in the order of the manifest.
        outline: Border of each sampling grid on the picture, in its pixels: (T, 4 m, 2),
            (0, 0) the centre of the first pixel. T is 0 for a network without one.
        rectified: The picture that the classifier saw, (h, w) or (h, w, 3) RGB; None when the file has no such output.
        latency_ms: Milliseconds a picture, by stage; of a batch, the batch's time divided by its size.
        probabilities: Probability of each label, in the manifest's order, (K,); at each position, (D, K), of a network
            that spells texts.
        seen: The pixels of the picture that became the network's input, (top, left, bottom, right), the last two left
            out; None is all of them.
        samples_beyond: Whether the transformers sample the picture also beyond ``seen``, as in the split form.
        characters: The characters of a text, each with its probability; empty where the answer is one label.
    """

    label: str
    confidence: float
    top: tuple[Score, ...]
    theta: tuple[float, ...]
    outline: NDArray[np.float32]
    rectified: Image | None
    latency_ms: Mapping[str, float]
    probabilities: NDArray[np.float32]
    seen: tuple[int, int, int, int] | None = None
    samples_beyond: bool = False
    characters: tuple[Score, ...] = ()

    @property
    def shown_label(self) -> str:
        """The label as a person reads it: a text without a character has words of its own."""
        return self.label or "no text"


class Classifier:
    """An exported model, ready to classify.

    Args:
        model: A released model's name, or an .onnx file written by ``stn export``.
        threads: Number of onnxruntime's threads; None takes one for each CPU that this process may use.
        providers: Execution providers, all of which must be available; None takes CUDA or else the CPU.
        topk: Number of labels, or texts, that a prediction lists.
        spin: Whether idle threads of onnxruntime spin, which answers sooner, or sleep for the sake of others.

    Raises:
        ModelContractError: The file is missing, damaged, or keeps no manifest.
        InputError: A provider that was named is not available.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        topk: int = 5,
        spin: bool = True,
    ) -> None:
        if topk < 1:
            raise ValueError(f"topk must be at least 1, got {topk}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.path = find_model(model)
        self._network = Network(self.path, threads=threads, providers=providers, spin=spin)
        self.manifest = self._network.manifest
        self.provider: str = self._network.session.get_providers()[0]
        self.topk = topk if self.manifest.sequence is not None else min(topk, len(self.manifest.labels))
        self._reach = np.array([reach(spec) for spec in self.manifest.transformers if spec.on_image], np.float32)
        self._reach = self._reach.reshape(-1, 1, 2)
        self._drawn = [index for index, spec in enumerate(self.manifest.transformers) if spec.on_image]

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers that are in use, the first preferred."""
        return tuple(self._network.session.get_providers())

    @overload
    def predict(self, pictures: Picture) -> Prediction: ...
    @overload
    def predict(self, pictures: Pictures, sizes: Sequence[tuple[int, int]] | None = None) -> list[Prediction]: ...
    def predict(
        self, pictures: Picture | Pictures, sizes: Sequence[tuple[int, int]] | None = None
    ) -> Prediction | list[Prediction]:
        """Classify one picture, or several as one batch.

        Args:
            pictures: uint8 arrays (H, W) grey or (H, W, 3) RGB (of an OpenCV frame pass ``frame[..., ::-1]``), or
                paths of image files; one, or a list of any sizes.
            sizes: (height, width) of the whole pictures, where a list of them was reduced; outlines are in their
                pixels.

        Returns:
            A prediction for one picture, a list of them for a list.

        Raises:
            ImageReadError: A file cannot be read as a picture.
            ValueError: An array is not a picture, or there are not as many sizes as pictures.
        """
        if isinstance(pictures, (np.ndarray, Path, str)):
            return self._predict([pictures])[0]
        return self._predict(pictures, sizes) if len(pictures) else []

    def run(self, batch: NDArray[np.uint8], frames: Sequence[Image] | None = None) -> dict[str, NDArray[np.generic]]:
        """Return the network's raw outputs by name.

        Args:
            batch: Preprocessed pictures (N, H, W, C).
            frames: The pictures they were made of; the split form samples these. By default the batch itself.
        """
        return self._network.run(batch, frames)

    def _predict(self, pictures: Sequence[Picture], sizes: Sequence[tuple[int, int]] | None = None) -> list[Prediction]:
        if sizes is not None and len(sizes) != len(pictures):
            raise ValueError(f"sizes must be one for each picture, got {len(sizes)} for {len(pictures)}")
        started = time.perf_counter()
        images = [picture if isinstance(picture, np.ndarray) else read_image(Path(picture)) for picture in pictures]
        decoded = time.perf_counter()
        batch = np.stack([preprocess(image, self.manifest.preprocess) for image in images])
        resized = time.perf_counter()
        outputs = self._network.run(batch, images)
        inferred = time.perf_counter()
        share = 1000 / len(images)
        latency = {
            "decode": (decoded - started) * share,
            "resize": (resized - decoded) * share,
            "infer": (inferred - resized) * share,
        }
        sizes = sizes or [(image.shape[0], image.shape[1]) for image in images]
        return [self.prediction(size, outputs, index, latency) for index, size in enumerate(sizes)]

    def prediction(
        self,
        size: tuple[int, int],
        outputs: Mapping[str, NDArray[np.generic]],
        index: int,
        latency: Mapping[str, float],
    ) -> Prediction:
        """Return what the network's outputs say of one picture of a batch.

        Args:
            size: (height, width) of the whole picture, pixels; the outline is in these.
            outputs: Outputs of ``run``, by name.
            index: Position of the picture in its batch.
            latency: Milliseconds by stage.
        """
        probabilities = outputs["probabilities"][index].astype(np.float32)
        top, characters = best_answers(probabilities, self.manifest, self.topk)
        theta: tuple[float, ...] = ()
        outline = np.empty((0, 0, 2), np.float32)
        if "theta" in outputs:
            theta = tuple(map(float, outputs["theta"][index].astype(np.float32)))
        if "outline" in outputs:
            placement = place(*size, self.manifest.preprocess)
            outline = placement.to_pixels(outputs["outline"][index].astype(np.float32)[self._drawn] * self._reach)
        rectified = None
        if "rectified" in outputs:
            rectified = outputs["rectified"][index].astype(np.uint8)
            rectified = rectified[:, :, 0] if rectified.shape[2] == 1 else rectified
        return Prediction(
            top[0].label,
            top[0].probability,
            top,
            theta,
            outline,
            rectified,
            latency,
            probabilities,
            seen=seen_part(*size, self.manifest.preprocess),
            samples_beyond=self.manifest.export.form == "split",
            characters=characters,
        )


def best_answers(
    probabilities: NDArray[np.float32], manifest: Manifest, count: int
) -> tuple[tuple[Score, ...], tuple[Score, ...]]:
    """Return the most probable labels or texts, best first, and the characters of the first text.

    Args:
        probabilities: (K,), or (D, K) of a network that spells texts.
        manifest: The model's.
        count: How many labels or texts.
    """
    labels = manifest.labels
    if manifest.sequence is None:
        best = np.argsort(-probabilities, kind="stable")[:count]
        return tuple(Score(labels[label], float(probabilities[label])) for label in best), ()
    texts = likely_sequences(probabilities, labels.index(manifest.sequence.end), count)
    top = tuple(Score("".join(labels[label] for label in text), probability) for text, probability in texts)
    spelled = enumerate(texts[0][0])
    return top, tuple(Score(labels[label], float(probabilities[place, label])) for place, label in spelled)
