"""Data sets by name: a benchmark, a folder with a folder per class, or a table of files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stn_runtime import InputError, PreprocessSpec
from stn_runtime.images.reading import IMAGE_SUFFIXES

from ..config import BENCHMARKS, NUMBERS
from ..numbers.plates import house_plates
from ..numbers.svhn import svhn_numbers
from . import benchmarks
from .files import load_files, read_files
from .labelled_images import REJECT, LabelledImages, preprocessed
from .listing import AS_THEY_ARE, FileOptions, LabelledFile, Listing, list_folder, list_table
from .tiny_imagenet import list_tiny_imagenet
from .traffic_signs import list_gtsrb

SPLITS = ("train", "val", "test", "all")
TYPEFACES = Path("/usr/share/fonts")
"""Where Debian keeps them."""


def load_dataset(
    name: str,
    split: str,
    spec: PreprocessSpec | None,
    data_dir: Path,
    files: FileOptions = AS_THEY_ARE,
    typefaces: Path = TYPEFACES,
    spill: Path | None = None,
) -> LabelledImages:
    """Return one split of a data set.

    Args:
        name: A name in BENCHMARKS, a folder as ``list_folder`` takes it, or a table (.csv) as ``list_table`` does.
        split: ``train``, ``val``, ``test``, or ``all``.
        spec: Size and colour to bring the images to; None keeps a benchmark's own.
        data_dir: Folder of torchvision's files.
        files: Say which files of a folder or table are taken.
        typefaces: Folder of typefaces that ``digits`` and ``house-plates`` print with.
        spill: Where a file holds the images of a folder that are too many for memory; by default the system's folder
            of temporary files.

    Raises:
        InputError: The data set does not exist or holds no usable image.
    """
    named = next((flag for flag in ("group", "class_names") if getattr(files, flag)), None)
    if name in BENCHMARKS and named is not None:
        raise InputError(f"--{named.replace('_', '-')} is for folders and tables; leave it out for {name}")
    if name == "mnist":
        loaded = benchmarks.mnist(split, data_dir)
    elif name == "mnist-addition":
        loaded = benchmarks.mnist_addition(split, data_dir)
    elif name == "sklearn-digits":
        loaded = benchmarks.sklearn_digits(split)
    elif name == "cifar10":
        loaded = benchmarks.cifar10(split, data_dir)
    elif name == "digits":
        loaded = benchmarks.digits(split, data_dir, typefaces)
    elif name == "svhn-digits":
        loaded = benchmarks.svhn_digits(split, data_dir)
    elif name in NUMBERS:
        if spec is None:
            raise InputError(f"{name}: pictures of any size need a size to bring them to; name a network")
        return svhn_numbers(split, spec, data_dir) if name == "svhn" else house_plates(split, spec, typefaces)
    else:
        if spec is None:
            raise InputError(f"{name}: files of images need a size to bring them to; name a network")
        return load_files(_listed(name, data_dir, files), split, spec, spill)
    if spec is None or tuple(loaded.images.shape[1:]) == (spec.height, spec.width, spec.channels):
        return loaded
    return preprocessed(loaded, spec)


def has_test(name: str, data_dir: Path, files: FileOptions = AS_THEY_ARE) -> bool:
    """Return whether a data set has pictures for testing; the arguments are those of ``load_dataset``.

    Raises:
        InputError: The data set does not exist.
    """
    return name in BENCHMARKS or bool(_listed(name, data_dir, files).parts.get("test"))


def _listed(name: str, data_dir: Path, options: FileOptions) -> Listing:
    path = Path(name)
    if name == "gtsrb":
        return list_gtsrb(data_dir)
    if name in ("tiny-imagenet", "tiny-imagenet-merged"):
        return list_tiny_imagenet(data_dir, merged=name == "tiny-imagenet-merged")
    if path.suffix.lower() == ".csv" and not path.is_dir():
        return list_table(path, options)
    if not path.is_dir():
        raise InputError(
            f"{name}: no such folder; give {', '.join(BENCHMARKS)}, a folder with a folder per class, or a table (.csv)"
        )
    return list_folder(path, options)


def with_photographs(data: LabelledImages, folder: Path, spec: PreprocessSpec, part: str) -> LabelledImages:
    """Return ``data`` with photographs below a folder as a further class, ``nothing``: a tenth as many as there are.

    Args:
        data: Labelled images of the size of ``spec``.
        folder: Photographs that show none of the classes; every tenth is for validation.
        spec: Size and colour to bring them to.
        part: ``train`` or ``val``.

    Raises:
        InputError: The folder holds no picture that can be read.
    """
    files = _pictures_below(folder)
    files = [path for index, path in enumerate(files) if (index % 10 == 0) == (part == "val")]
    chosen = _spaced(files, max(1, len(data) // 10))
    images, kept = _read_photographs(folder, chosen, replace(spec, fit="crop"))
    label = len(data.classes)
    return replace(
        data,
        images=torch.cat([data.images, images]),
        labels=torch.cat([data.labels, torch.full((len(images),), label)]),
        classes=(*data.classes, REJECT),
        reject=label,
        paths=(*data.paths, *(str(file.path) for file in kept)) if data.paths else (),
    )


def _pictures_below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def _spaced(files: list[Path], most: int) -> list[Path]:
    return [files[index] for index in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]


def load_backgrounds(folder: Path, most: int = 20_000) -> Tensor:
    """Return the photographs below a folder, their middle square in grey, (M, 64, 64) uint8; at most ``most``.

    Raises:
        InputError: The folder is not there, or holds no picture that can be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --backgrounds takes one of photographs")
    chosen = _spaced(_pictures_below(folder), most)
    return _read_photographs(folder, chosen, PreprocessSpec(64, 64, 1, "crop"))[0][..., 0]


def _read_photographs(folder: Path, paths: list[Path], spec: PreprocessSpec) -> tuple[Tensor, list[LabelledFile]]:
    images, kept, skipped = read_files([LabelledFile(path, 0) for path in paths], spec)
    if not len(images):
        raise InputError(f"{folder}: holds no picture that can be read ({skipped[0] if skipped else 'it has none'})")
    return images, kept
