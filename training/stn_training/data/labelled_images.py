"""Labelled images of one size in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stn_runtime import InputError, PreprocessSpec, preprocess

REJECT = "nothing"
"""Name of the class that means none of the others, where nothing else is said."""


@dataclass(frozen=True)
class LabelledImages:
    """Images of one size in memory.

    Attributes:
        images: (N, H, W, C) uint8; C = 1 grey, 3 RGB.
        labels: (N,) int64, indices into ``classes``; (N, D) where an image shows a text.
        classes: Names of the classes; of texts, their characters and what ends them.
        source: Name or folder of the data set, for reports.
        reject: Index of the class that means none of the others; None without one.
        placements: Where a distortion put each image, (N, 2, 3) as in ``Distorted``; None where nothing was distorted.
        paths: File of each image; empty where they are of a benchmark's own files.
        end: Index of the class behind the last character of a text; None where an image has one label.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    reject: int | None = None
    placements: Tensor | None = None
    paths: tuple[str, ...] = ()
    end: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def answer(self, labels: Tensor) -> str:
        """Return the name of one image's label, (), or the text that its labels spell, (D,)."""
        if self.end is None:
            return self.classes[int(labels)]
        return "".join(self.classes[label] for label in labels.tolist() if label != self.end)

    def groups(self) -> tuple[tuple[str, ...], Tensor]:
        """Return names of groups of images, and the group of each (N,): its class, or how long its text is."""
        if self.end is None:
            return self.classes, self.labels
        lengths = (self.labels != self.end).sum(dim=1)
        names = [f"{count} character{'s' * (count != 1)}" for count in range(self.labels.shape[1] + 1)]
        return tuple(names), lengths

    def is_reject(self, indices: Tensor) -> Tensor:
        """Return which of the images at ``indices`` are of the reject class."""
        return self.labels[indices] == (-1 if self.reject is None else self.reject)

    def select(self, indices: Sequence[int] | Tensor) -> "LabelledImages":
        """Return the images at ``indices``."""
        chosen = torch.as_tensor(indices, dtype=torch.long)
        placements = None if self.placements is None else self.placements[chosen]
        paths = tuple(self.paths[index] for index in chosen.tolist()) if self.paths else ()
        return replace(self, images=self.images[chosen], labels=self.labels[chosen], placements=placements, paths=paths)


def with_reject(data: LabelledImages, name: str) -> LabelledImages:
    """Return ``data`` with the class ``name``, or where that is empty the class ``nothing``, as the one that is none.

    Raises:
        InputError: There is no class of that name, or no image in it.
    """
    named = name or REJECT
    if named not in data.classes:
        if name:
            raise InputError(f"{data.source}: has no class '{name}' to reject; it has {', '.join(data.classes[:20])}")
        return data
    index = data.classes.index(named)
    if not (data.labels == index).any():
        raise InputError(f"{data.source}: class '{named}' is empty; put pictures in it that show none of the others")
    return replace(data, reject=index)


def preprocessed(data: LabelledImages, spec: PreprocessSpec) -> LabelledImages:
    """Return ``data`` with each image brought to ``spec`` as a device does it."""
    images = np.stack([preprocess(image, spec) for image in data.images.numpy()])
    return replace(data, images=torch.from_numpy(images))
