"""Street View House Numbers (Netzer et al. 2011): whole numbers from digitStruct.mat, and cropped digits."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from stn_runtime import ImageReadError, InputError, PreprocessSpec, preprocess
from stn_runtime.errors import printable
from stn_runtime.images.reading import read_image

from ..data.labelled_images import LabelledImages
from ..digits.glyphs import DIGITS
from .plates import END, LONGEST, spelled

log = logging.getLogger(__name__)

FOLDER = "svhn"
STRUCT = "digitStruct.mat"
_GROWTH = 1.3
"""Side of a crop as a multiple of that of the box around all digits (section 4.2)."""
_FIELDS = ("label", "left", "top", "width", "height")


@dataclass(frozen=True)
class HouseNumber:
    """A picture of a house number.

    Attributes:
        path: Its file.
        number: Its digits.
        box: Box around them, left, top, right, bottom in pixels; it may reach beyond the picture.
    """

    path: Path
    number: str
    box: tuple[float, float, float, float]

    def crop(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture's part around the number, 30 % larger than its box, as far as there is picture.

        Raises:
            ImageReadError: The box lies outside the picture.
        """
        left, top, right, bottom = self.box
        across, down = (right - left) * (_GROWTH - 1) / 2, (bottom - top) * (_GROWTH - 1) / 2
        height, width = picture.shape[:2]
        columns = slice(max(0, round(left - across)), min(width, round(right + across)))
        rows = slice(max(0, round(top - down)), min(height, round(bottom + down)))
        part = picture[rows, columns]
        if not part.size:
            raise ImageReadError(f"{self.path}: its number lies outside the picture, at {left:g}, {top:g}")
        return part


def svhn_numbers(split: str, spec: PreprocessSpec, data_dir: Path) -> LabelledImages:
    """Return crops around whole house numbers with their digits, up to five, and then the class ``end``.

    The original archives lie in ``data_dir/svhn`` as ``train``, ``test`` and perhaps ``extra``, each with its
    pictures and digitStruct.mat. Every tenth picture of ``train`` is for validation; ``extra`` is for training.

    Args:
        split: ``train``, ``val``, ``test`` or ``all``.
        spec: Size and colour to bring the crops to.
        data_dir: Folder of data sets.

    Raises:
        InputError: The files are not there, or damaged, or hold no usable picture.
    """
    root = data_dir / FOLDER
    parts = ("train", "val", "test") if split == "all" else (split,)
    numbers = [number for part in parts for number in _part(root, part)]
    images, labels, faults = [], [], []
    for number in tqdm(numbers, "reading", unit=" images", leave=False, disable=None):
        if len(number.number) > LONGEST:
            faults.append(f"{number.path}: has {len(number.number)} digits, more than {LONGEST}")
            continue
        try:
            images.append(preprocess(np.ascontiguousarray(number.crop(read_image(number.path))), spec))
            labels.append(spelled(number.number))
        except ImageReadError as error:
            faults.append(str(error))
    for fault in faults[:5]:
        log.warning("skipped %s", printable(fault, 400))
    if faults:
        log.warning("%d of %d pictures of split '%s' were skipped", len(faults), len(numbers), split)
    if not images:
        raise InputError(f"{root}: none of the {len(numbers)} pictures of split '{split}' can be used")
    classes = (*DIGITS, END)
    return LabelledImages(
        torch.from_numpy(np.stack(images)), torch.tensor(labels), classes, "svhn", end=classes.index(END)
    )


def _part(root: Path, part: str) -> list[HouseNumber]:
    if part == "test":
        return list(read_struct(root / "test"))
    numbers = list(read_struct(root / "train"))
    held_out = set(range(9, len(numbers), 10)) or {len(numbers) - 1}
    if part == "val":
        return [numbers[index] for index in sorted(held_out)]
    rest = [number for index, number in enumerate(numbers) if index not in held_out]
    extra = root / "extra"
    return [*rest, *(read_struct(extra) if (extra / STRUCT).is_file() else ())]


def read_struct(folder: Path) -> Iterator[HouseNumber]:
    """Yield the house numbers that a folder's digitStruct.mat lists.

    Raises:
        InputError: The file is missing or damaged.
    """
    path = folder / STRUCT
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file; put SVHN's train.tar.gz and test.tar.gz, unpacked, into {folder.parent}"
        )
    try:
        with h5py.File(path) as file:
            names, boxes = file["digitStruct/name"], file["digitStruct/bbox"]
            for index in tqdm(range(len(names)), f"reading {path}", leave=False, disable=None):
                name = "".join(map(chr, file[names[index, 0]][:, 0]))
                fields = {field: _values(file, file[boxes[index, 0]][field]) for field in _FIELDS}
                yield _number(folder / Path(name).name, fields)
    except (OSError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as SVHN's list of boxes ({printable(str(error), 200)})") from error


def _values(file: h5py.File, entry: h5py.Dataset) -> list[float]:
    """Return one number for each digit of a picture; of several digits the file keeps references, of one the number."""
    if entry.dtype == h5py.ref_dtype:
        return [float(file[reference][0, 0]) for reference in entry[:, 0]]
    return [float(entry[0, 0])]


def _number(path: Path, fields: dict[str, list[float]]) -> HouseNumber:
    order = np.argsort(fields["left"], kind="stable") if _runs_across(fields) else np.arange(len(fields["left"]))
    digits = "".join(str(int(fields["label"][index]) % 10) for index in order)  # the file calls a zero 10
    right = [left + width for left, width in zip(fields["left"], fields["width"], strict=True)]
    bottom = [top + height for top, height in zip(fields["top"], fields["height"], strict=True)]
    return HouseNumber(path, digits, (min(fields["left"]), min(fields["top"]), max(right), max(bottom)))


def _runs_across(fields: dict[str, list[float]]) -> bool:
    """Return whether the digits stand beside each other; one below the other they keep the file's order."""
    return bool(np.ptp(fields["left"]) >= np.ptp(fields["top"]))


def svhn_digits(train: bool, data_dir: Path) -> tuple[Tensor, Tensor]:
    """Return the cropped digits of a split, (N, 32, 32, 3) uint8, and their labels (N,), as torchvision reads them."""
    name = "train" if train else "test"
    is_there = (data_dir / f"{name}_32x32.mat").is_file()
    source = torchvision.datasets.SVHN(str(data_dir), split=name, download=not is_there)
    return torch.from_numpy(source.data).permute(0, 2, 3, 1).contiguous(), torch.from_numpy(source.labels).long()
