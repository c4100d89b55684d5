"""Benchmarks in memory: MNIST and what is made of it, CIFAR-10, scikit-learn's digits."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from sklearn import datasets as sklearn_datasets
from sklearn.model_selection import train_test_split
from torch import Tensor

from stn_runtime import InputError, PreprocessSpec

from ..digits.glyphs import DIGITS, OTHERS, printed, typefaces_in, with_digits
from ..digits.scenes import GLYPH_SIZE
from ..numbers.svhn import svhn_digits as cropped_digits
from .files import load_files
from .labelled_images import REJECT, LabelledImages
from .listing import list_folder, split_names

_SPLIT_SEED = 0
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def mnist(split: str, data_dir: Path) -> LabelledImages:
    """Return MNIST, 28 x 28 grey."""
    is_there = (data_dir / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()

    def part(train: bool) -> tuple[Tensor, Tensor]:
        source = torchvision.datasets.MNIST(str(data_dir), train=train, download=not is_there)
        return source.data[..., None], source.targets

    return _benchmark("MNIST", part, split, data_dir, tuple("0123456789"))


def mnist_addition(split: str, data_dir: Path) -> LabelledImages:
    """Return each digit of MNIST, in red, with another of its split, in cyan; the class is their sum (appendix A.1)."""
    digits = mnist(split, data_dir)
    other = torch.randperm(len(digits), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    images = torch.cat([digits.images, digits.images[other].expand(-1, -1, -1, 2)], dim=3)
    sums = tuple(str(number) for number in range(19))
    return LabelledImages(images, digits.labels + digits.labels[other], sums, "mnist-addition")


def cifar10(split: str, data_dir: Path) -> LabelledImages:
    """Return CIFAR-10 from torchvision's files, or from a folder ``cifar10`` with ``train`` and ``test``."""
    folder = data_dir / "cifar10"
    if folder.is_dir():
        return replace(load_files(list_folder(folder), split, PreprocessSpec(32, 32, 3)), source="cifar10")
    is_there = (data_dir / "cifar-10-batches-py").is_dir()

    def part(train: bool) -> tuple[Tensor, Tensor]:
        source = torchvision.datasets.CIFAR10(str(data_dir), train=train, download=not is_there)
        return torch.from_numpy(source.data), torch.tensor(source.targets)

    return _benchmark("CIFAR-10", part, split, data_dir, _CIFAR10)


def svhn_digits(split: str, data_dir: Path) -> LabelledImages:
    """Return the cropped digits of Street View House Numbers, 32 x 32 RGB."""
    return _benchmark("SVHN-digits", partial(cropped_digits, data_dir=data_dir), split, data_dir, tuple(DIGITS))


def _benchmark(
    name: str,
    part: Callable[[bool], tuple[Tensor, Tensor]],
    split: str,
    data_dir: Path,
    classes: tuple[str, ...],
) -> LabelledImages:
    """Return a split of one of torchvision's data sets; 5,000 training images are held out for validation.

    Args:
        name: Of the data set, in messages.
        part: Reads images (N, H, W, C) and labels (N,) of training (True) or test.
        split: A split's name.
        data_dir: Folder of torchvision's files.
        classes: Names of the classes.

    Raises:
        InputError: The files are not there, or damaged.
    """
    parts = []
    for split_name in split_names(split):
        try:
            images, labels = part(split_name != "test")
        except (RuntimeError, OSError) as error:
            raise InputError(
                f"{name} is not in {data_dir} and cannot be downloaded ({' '.join(str(error).split())}); "
                "give its place with --data-dir"
            ) from error
        if split_name != "test":
            chosen = _holdout(labels, 5_000)[split_name == "val"]
            images, labels = images[chosen], labels[chosen]
        parts.append((images, labels))
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return LabelledImages(images, labels, classes, name.replace("-", "").lower())


def digits(split: str, data_dir: Path, typefaces: Path) -> LabelledImages:
    """Return MNIST's digits, a quarter as many printed ones, and as many letters and blanks named ``nothing``.

    Every sixth typeface is kept from training, for validation and test.
    """
    handwritten = mnist(split, data_dir)
    faces = typefaces_in(typefaces)
    if split != "all":
        faces = [path for index, path in enumerate(faces) if (index % 6 == 0) == (split != "train")]
    digits, digit_labels = printed(DIGITS, with_digits(faces))
    letters, _ = printed(OTHERS, faces)
    share = len(handwritten) // 4
    nothing = len(DIGITS)
    images = [handwritten.images.repeat_interleave(2, 1).repeat_interleave(2, 2)]
    labels = [handwritten.labels]
    for glyphs, names in (
        (digits, digit_labels),
        (letters, torch.full((len(letters),), nothing)),
        (torch.zeros(1, GLYPH_SIZE, GLYPH_SIZE, 1, dtype=torch.uint8), torch.tensor([nothing])),
    ):
        chosen = torch.arange(share) % len(glyphs)
        images.append(glyphs[chosen])
        labels.append(names[chosen])
    return LabelledImages(torch.cat(images), torch.cat(labels), (*DIGITS, REJECT), "digits", nothing)


def sklearn_digits(split: str) -> LabelledImages:
    """Return scikit-learn's 1797 digits of 8 x 8 pixels, enlarged to 28 x 28 inside a border like MNIST's."""
    source = sklearn_datasets.load_digits()
    small = torch.from_numpy(source.images).float()[:, None] / 16
    enlarged = torch.nn.functional.interpolate(small, (20, 20), mode="bilinear", align_corners=False)
    images = (torch.nn.functional.pad(enlarged, (4, 4, 4, 4)) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    data = LabelledImages(images, torch.from_numpy(source.target).long(), tuple("0123456789"), "sklearn-digits")
    if split == "all":
        return data
    rest, test = _holdout(data.labels, 360)
    train, val = _holdout(data.labels[rest], 180)
    return data.select({"train": rest[train], "val": rest[val], "test": test}[split])


def _holdout(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the indices of a stratified split that is the same in every run: (rest, ``count`` held out)."""
    rest, held_out = train_test_split(
        np.arange(len(labels)), test_size=count, stratify=labels.numpy(), random_state=_SPLIT_SEED
    )
    return torch.from_numpy(np.sort(rest)), torch.from_numpy(np.sort(held_out))
