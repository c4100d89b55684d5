"""Pictures that look the same in two parts of a data set, of which a measurement says too much."""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from tqdm import tqdm

from ..tables import save_rows
from .labelled_images import LabelledImages

log = logging.getLogger(__name__)

_MEAN_DIFFERENCE = 6.0
"""Greatest mean difference of two pictures that look the same, in levels of 255: flat pictures share a hash."""
_BITS_APART = 4
_MOST_COMPARED = 200  # pictures with one part of a hash in common
DUPLICATES = "duplicates.csv"


@dataclass(frozen=True)
class Twin:
    """A picture that looks like one of training.

    Attributes:
        path: Its file.
        label: Its class.
        training_path: File of the training picture.
        training_label: Class of that.
    """

    path: str
    label: str
    training_path: str
    training_label: str


def find_twins(train: LabelledImages, other: LabelledImages) -> list[Twin]:
    """Return the pictures of ``other`` that look like one of ``train``: nearly the same hash, and hardly a difference.

    The hash is pHash of 64 bits as the library imagehash has it, of pictures at the network's size; at most four bits
    may differ.

    Args:
        train: Training pictures of files.
        other: Pictures of files, of the same size.
    """
    hashes = _hashes(train, "training pictures")
    known: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, value in enumerate(hashes):
        for band in _bands(value):
            known[band].append(index)
    twins = []
    for index, value in enumerate(_hashes(other, "pictures")):
        candidates = {candidate for band in _bands(value) for candidate in known.get(band, ())[:_MOST_COMPARED]}
        picture = other.images[index].numpy().astype(np.int16)
        for candidate in sorted(candidates, key=lambda candidate: (value ^ hashes[candidate]).bit_count()):
            if (value ^ hashes[candidate]).bit_count() > _BITS_APART:
                break
            difference = np.abs(picture - train.images[candidate].numpy().astype(np.int16)).mean()
            if difference <= _MEAN_DIFFERENCE:
                label, training_label = other.answer(other.labels[index]), train.answer(train.labels[candidate])
                twins.append(Twin(other.paths[index], label, train.paths[candidate], training_label))
                break
    return twins


def report_twins(twins: Sequence[Twin], part: str, folder: Path) -> None:
    """Say how many pictures of a part look like one of training, and list them in a file of the run's folder."""
    if not twins:
        return
    save_rows(twins, folder / DUPLICATES)
    torn = sum(twin.label != twin.training_label for twin in twins)
    log.warning(
        "%d of the %s pictures %s like one of training%s, the first %s and %s; accuracy on them says too much. All are "
        "in %s; remove them, or keep what belongs together in one part with --group",
        len(twins),
        part,
        "looks" if len(twins) == 1 else "look",
        f", {torn} of them in another class" if torn else "",
        twins[0].path,
        twins[0].training_path,
        folder / DUPLICATES,
    )


def find_contradictions(train: LabelledImages) -> list[Twin]:
    """Return the training pictures that are, at the network's size, exactly one of another class before them."""
    first: dict[bytes, int] = {}
    twins = []
    for index, image in enumerate(tqdm(train.images, "comparing classes", unit=" images", leave=False, disable=None)):
        before = first.setdefault(hashlib.sha256(image.numpy()).digest(), index)
        label, label_before = train.answer(train.labels[index]), train.answer(train.labels[before])
        if label != label_before:
            twins.append(Twin(train.paths[index], label, train.paths[before], label_before))
    return twins


def report_contradictions(twins: Sequence[Twin]) -> None:
    """Say how many training pictures are also in another class."""
    if twins:
        log.warning(
            "%d training %s the same as one of another class, the first %s ('%s') and %s ('%s'); no network can learn "
            "both, so keep one of each",
            len(twins),
            "picture is" if len(twins) == 1 else "pictures are",
            twins[0].path,
            twins[0].label,
            twins[0].training_path,
            twins[0].training_label,
        )


def _bands(value: int) -> list[tuple[int, int]]:
    """Return a hash in five parts, one of which two hashes share that differ in four bits at most."""
    return [(band, value >> (13 * band) & 0x1FFF) for band in range(_BITS_APART + 1)]


def _hashes(data: LabelledImages, what: str) -> list[int]:
    return [
        int(str(imagehash.phash(_pillow(image.numpy()))), 16)
        for image in tqdm(data.images, f"comparing {what}", unit=" images", leave=False, disable=None)
    ]


def _pillow(image: NDArray[np.uint8]) -> PillowImage.Image:
    return PillowImage.fromarray(image[..., 0] if image.shape[2] == 1 else image)
