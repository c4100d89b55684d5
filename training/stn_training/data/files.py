"""Image files read into memory, or where they are too many, into a file that is mapped."""

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from stn_runtime import ImageReadError, InputError, PreprocessSpec, preprocess
from stn_runtime.errors import printable
from stn_runtime.images.reading import read_image
from stn_runtime.machine.memory import usable_memory

from .labelled_images import LabelledImages
from .listing import LabelledFile, Listing, split_names

log = logging.getLogger(__name__)

_IMBALANCE_WORTH_SAYING = 3
_SKIPPED_SHOWN, _LONGEST_REASON = 20, 400
_MEMORY_SHARE = 0.25
"""Of the memory, beyond which a split's images are held in a file."""


def load_files(listing: Listing, split: str, spec: PreprocessSpec, spill: Path | None = None) -> LabelledImages:
    """Return the images of a split, brought to a size; what cannot be read is skipped and said.

    Args:
        listing: Files of the data set.
        split: ``train``, ``val``, ``test``, or ``all``.
        spec: Size and colour to bring the images to.
        spill: Folder for a file that holds images which are too many for memory; by default that of temporary files.

    Raises:
        InputError: The split holds no usable image.
    """
    if split == "test" and split not in listing.parts:
        raise InputError(f"{listing.source}: has a train folder but no test folder; give --split val, or add one")
    files = [file for name in split_names(split) for file in listing.parts.get(name, ())]
    if split != "val":  # training says it of its own split
        for remark in (*listing.remarks, *([listing.unread] if listing.unread and files else [])):
            log.warning("%s", remark)
    if not files:
        needed = "a folder per class is expected"
        if listing.parts.get("train"):
            needed = "a class needs 3 pictures, or groups, to be split"
        raise InputError(listing.unread or f"{listing.source}: the split '{split}' has no images; {needed}")
    images, kept, skipped = read_files(files, spec, spill)
    for message in skipped[:_SKIPPED_SHOWN]:
        log.warning("skipped %s", printable(message, _LONGEST_REASON))
    if skipped:
        log.warning("%d of %d files of split '%s' were skipped", len(skipped), len(files), split)
    if not kept:
        raise InputError(f"{listing.source}: none of the {len(files)} files of split '{split}' can be read as an image")
    labels = torch.tensor([file.label for file in kept], dtype=torch.long)
    paths = tuple(str(file.path) for file in kept)
    data = LabelledImages(images, labels, listing.classes, listing.source, paths=paths)
    _report_balance(data, split)
    return data


def read_files(
    files: Sequence[LabelledFile], spec: PreprocessSpec, spill: Path | None = None
) -> tuple[Tensor, list[LabelledFile], list[str]]:
    """Return images (N, H, W, C), their files, and why the other files were skipped."""
    images = _room(len(files), spec, spill)

    def read(index: int) -> str:
        """Read a file into its place; return why that cannot be, or an empty text."""
        try:
            images[index] = torch.from_numpy(preprocess(read_image(files[index].path), spec))
        except ImageReadError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(read, range(len(files)))
        faults = list(tqdm(results, "reading", len(files), unit=" images", leave=False, disable=None))
    kept = [index for index, fault in enumerate(faults) if not fault]
    for place, index in enumerate(kept):
        if place != index:
            images[place] = images[index]
    return images[: len(kept)], [files[index] for index in kept], [fault for fault in faults if fault]


def _room(count: int, spec: PreprocessSpec, spill: Path | None) -> Tensor:
    """Return a tensor for ``count`` images: in memory, or in a file that ends with it where they take too much of it.

    Raises:
        InputError: There is no room in the folder of the file either.
    """
    shape = (count, spec.height, spec.width, spec.channels)
    size = math.prod(shape)
    size_of_one = f"{spec.height} x {spec.width} x {spec.channels}"
    text = f"{count} pictures of {size_of_one} (height x width x channels): {size / 1e6:,.0f} MB"
    if size <= _MEMORY_SHARE * usable_memory():
        log.info("%s", text)
        return torch.empty(shape, dtype=torch.uint8)
    folder = spill or Path(tempfile.gettempdir())
    if shutil.disk_usage(folder).free < size:
        raise InputError(f"{folder}: has no room for {text}, and memory has not either; take a smaller image_size")
    log.info("%s, in a file in %s, since that is over a quarter of the memory", text, folder)
    descriptor, path = tempfile.mkstemp(".images", dir=folder)
    os.close(descriptor)
    mapped = torch.from_file(path, shared=True, size=size, dtype=torch.uint8).view(shape)
    with suppress(OSError):  # what is open stays until it is let go; Windows refuses
        os.unlink(path)
    return mapped


def _report_balance(data: LabelledImages, split: str) -> None:
    counts = torch.bincount(data.labels, minlength=len(data.classes))
    empty = [data.classes[index] for index in torch.nonzero(counts == 0).flatten()]
    if empty:
        log.warning("split '%s' has no image of: %s", split, ", ".join(empty))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] > _IMBALANCE_WORTH_SAYING * counts[least]:
        log.warning(
            "split '%s' is unbalanced: %d images of '%s', %d of '%s'",
            split,
            counts[most],
            data.classes[most],
            counts[least],
            data.classes[least],
        )
