"""Data sets: labelled images in memory as uint8, from a benchmark or from a folder with a folder per class."""

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from sklearn import datasets as sklearn_datasets
from sklearn.model_selection import train_test_split
from torch import Tensor
from tqdm import tqdm

from stn_runtime import ImageReadError, InputError, PreprocessSpec, preprocess
from stn_runtime.images.foreign_files import is_below_foreign, is_foreign, passed_over
from stn_runtime.images.reading import IMAGE_SUFFIXES, read_image
from stn_runtime.images.unread_kinds import UNREAD_SUFFIXES, unread
from stn_runtime.machine.memory import usable_memory

from ..config import BENCHMARKS
from ..digits.glyphs import DIGITS, OTHERS, printed, typefaces_in
from ..digits.scenes import GLYPH_SIZE

log = logging.getLogger(__name__)

REJECT = "nothing"
"""Name of the class that means none of the others, where nothing else is said."""

SPLITS = ("train", "val", "test", "all")
_SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_SPLIT_SEED = 0
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMBALANCE_WORTH_SAYING = 3
_MEMORY_SHARE = 0.25
"""Of the memory, beyond which a split's images are held in a file."""


@dataclass(frozen=True)
class LabelledImages:
    """Images of one size in memory.

    Attributes:
        images: (N, H, W, C) uint8; C = 1 grey, 3 RGB.
        labels: (N,) int64, indices into ``classes``.
        classes: Names of the classes.
        source: Name or folder of the data set, for reports.
        reject: Index of the class that means none of the others; None without one.
        placements: Where a distortion put each image, (N, 2, 3) as in ``Distorted``; None where nothing was distorted.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    reject: int | None = None
    placements: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def is_reject(self, indices: Tensor) -> Tensor:
        """Return which of the images at ``indices`` are of the reject class."""
        return self.labels[indices] == (-1 if self.reject is None else self.reject)

    def select(self, indices: Sequence[int] | Tensor) -> "LabelledImages":
        """Return the images at ``indices``."""
        chosen = torch.as_tensor(indices, dtype=torch.long)
        placements = None if self.placements is None else self.placements[chosen]
        return replace(self, images=self.images[chosen], labels=self.labels[chosen], placements=placements)


def load_dataset(
    name: str,
    split: str,
    spec: PreprocessSpec | None,
    data_dir: Path,
    all_files: bool = False,
    typefaces: Path = Path("/usr/share/fonts"),
    spill: Path | None = None,
) -> LabelledImages:
    """Return one split of a data set.

    Args:
        name: A name in BENCHMARKS, or a folder of images with a folder per class.
            A folder with ``train`` and ``test`` (and ``val``) inside is split as it says, any other 80 : 10 : 10.
        split: ``train``, ``val``, ``test``, or ``all``.
        spec: Size and colour to bring the images to; None keeps a benchmark's own.
        data_dir: Folder of torchvision's files.
        all_files: Whether to take also what other programs left in folders, such as ``._IMG.jpg`` and ``@eaDir``.
        typefaces: Folder of typefaces that ``digits`` prints with.
        spill: Where a file holds the images of a folder that are too many for memory; by default the system's folder
            of temporary files.

    Raises:
        InputError: The data set does not exist or holds no usable image.
    """
    if name == "mnist":
        loaded = _mnist(split, data_dir)
    elif name == "mnist-addition":
        loaded = _mnist_addition(split, data_dir)
    elif name == "sklearn-digits":
        loaded = _sklearn_digits(split)
    elif name == "cifar10":
        loaded = _cifar10(split, data_dir)
    elif name == "digits":
        loaded = _digits(split, data_dir, typefaces)
    else:
        if spec is None:
            raise InputError(f"{name}: a folder of images needs a size to bring them to; name a network")
        return _folder(Path(name), split, spec, all_files, spill)
    if spec is None or tuple(loaded.images.shape[1:]) == (spec.height, spec.width, spec.channels):
        return loaded
    return preprocessed(loaded, spec)


def load_backgrounds(folder: Path, most: int = 20_000) -> Tensor:
    """Return the photographs below a folder, their middle square in grey, (M, 64, 64) uint8; at most ``most``.

    Raises:
        InputError: The folder holds no picture that can be read.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    chosen = [files[index] for index in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]
    images, _, skipped = _read_files([(path, 0) for path in chosen], PreprocessSpec(64, 64, 1, "crop"))
    if not len(images):
        raise InputError(f"{folder}: holds no picture that can be read ({skipped[0] if skipped else 'it has none'})")
    return images[..., 0]


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


def split_names(split: str) -> tuple[str, ...]:
    """Return the names of the parts of a split: train, val, test, or all three."""
    return ("train", "val", "test") if split == "all" else (split,)


def _mnist(split: str, data_dir: Path) -> LabelledImages:
    is_there = (data_dir / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()

    def part(train: bool) -> tuple[Tensor, Tensor]:
        source = torchvision.datasets.MNIST(str(data_dir), train=train, download=not is_there)
        return source.data[..., None], source.targets

    return _benchmark("MNIST", part, split, data_dir, tuple("0123456789"))


def _mnist_addition(split: str, data_dir: Path) -> LabelledImages:
    """Return each digit of MNIST, in red, with another of its split, in cyan; the class is their sum (appendix A.1)."""
    digits = _mnist(split, data_dir)
    other = torch.randperm(len(digits), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    images = torch.cat([digits.images, digits.images[other].expand(-1, -1, -1, 2)], dim=3)
    sums = tuple(str(number) for number in range(19))
    return LabelledImages(images, digits.labels + digits.labels[other], sums, "mnist-addition")


def _cifar10(split: str, data_dir: Path) -> LabelledImages:
    """Return CIFAR-10 from torchvision's files, or from a folder ``cifar10`` with ``train`` and ``test``."""
    folder = data_dir / "cifar10"
    if folder.is_dir():
        return replace(_folder(folder, split, PreprocessSpec(32, 32, 3), all_files=False), source="cifar10")
    is_there = (data_dir / "cifar-10-batches-py").is_dir()

    def part(train: bool) -> tuple[Tensor, Tensor]:
        source = torchvision.datasets.CIFAR10(str(data_dir), train=train, download=not is_there)
        return torch.from_numpy(source.data), torch.tensor(source.targets)

    return _benchmark("CIFAR-10", part, split, data_dir, _CIFAR10)


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


def _digits(split: str, data_dir: Path, typefaces: Path) -> LabelledImages:
    """Return MNIST's digits, a quarter as many printed ones, and as many letters and blanks named ``nothing``.

    Every sixth typeface is kept from training, for validation and test.
    """
    handwritten = _mnist(split, data_dir)
    faces = typefaces_in(typefaces)
    if split != "all":
        faces = [path for index, path in enumerate(faces) if (index % 6 == 0) == (split != "train")]
    digits, digit_labels = printed(DIGITS, faces)
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


def _sklearn_digits(split: str) -> LabelledImages:
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


def _folder(root: Path, split: str, spec: PreprocessSpec, all_files: bool, spill: Path | None = None) -> LabelledImages:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give {', '.join(BENCHMARKS)}, or a folder with a folder per class")
    classes, files = _list_files(root, split, all_files)
    not_read = _unread(root)
    if split != "val":  # training says it of its own split
        if not all_files:
            _report_passed_over(root)
        if not_read and files:
            log.warning("%s", not_read)
    if not files:
        raise InputError(not_read or f"{root}: the split '{split}' has no images; a folder per class is expected")
    images, labels, skipped = _read_files(files, spec, spill)
    for message in skipped:
        log.warning("skipped %s", message)
    if skipped:
        log.warning("%d of %d files of split '%s' were skipped", len(skipped), len(files), split)
    if not len(labels):
        raise InputError(f"{root}: none of the {len(files)} files of split '{split}' can be read as an image")
    data = LabelledImages(images, labels, classes, str(root))
    _report_balance(data, split)
    return data


def _list_files(root: Path, split: str, all_files: bool) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """Return the class names and the (file, class) pairs of a split, sorted."""
    children = {entry.name.lower(): entry for entry in sorted(root.iterdir()) if entry.is_dir()}
    folders = {
        name: next((children[spelling] for spelling in spellings if spelling in children), None)
        for name, spellings in _SPLIT_FOLDERS.items()
    }
    train = folders["train"]
    if train is None and any(folders.values()):
        other = next(folder.name for folder in folders.values() if folder is not None)
        raise InputError(f"{root}: has a folder '{other}' but none called train; are these splits or classes?")
    if train is None:
        classes = _class_names(root, all_files)
        parts = _made_split(_class_files(root, classes, all_files), {"val": 0.1, "test": 0.1})
    else:
        classes = _class_names(train, all_files)
        parts = {
            name: _class_files(folder, classes, all_files) for name, folder in folders.items() if folder is not None
        }
        if "val" not in parts:
            parts = parts | _made_split(parts["train"], {"val": 0.1})
        if "test" not in parts and split == "test":
            raise InputError(f"{root}: has a train folder but no test folder; give --split val, or add one")
    return classes, [pair for name in split_names(split) for pair in parts.get(name, [])]


def _class_folders(folder: Path, all_files: bool) -> set[str]:
    names = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    return names if all_files else {name for name in names if not is_foreign(name)}


def _class_names(folder: Path, all_files: bool) -> tuple[str, ...]:
    names = sorted(_class_folders(folder, all_files))
    if len(names) < 2:
        raise InputError(f"{folder}: needs a folder per class, at least two; found {len(names)}")
    return tuple(names)


def _report_passed_over(root: Path) -> None:
    """Say how many pictures and folders of other programs are passed over."""
    foreign = [path for path in sorted(root.rglob("*")) if is_below_foreign(path, root)]
    pictures = [path for path in foreign if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    folders = [path for path in foreign if path.is_dir() and not path.name.startswith(".")]
    if pictures:
        log.warning("%s", passed_over(root, len(pictures), [str((folders or pictures)[0].relative_to(root))]))


def _unread(root: Path) -> str | None:
    """Return the sentence that says how many pictures are of kinds that are not read; None without any."""
    files = [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in UNREAD_SUFFIXES and not is_below_foreign(path, root) and path.is_file()
    ]
    return unread(root, len(files), str(files[0].relative_to(root))) if files else None


def _class_files(folder: Path, classes: tuple[str, ...], all_files: bool) -> list[tuple[Path, int]]:
    unknown = _class_folders(folder, all_files) - set(classes)
    if unknown:
        raise InputError(f"{folder}: has classes that training did not see: {', '.join(sorted(unknown))}")
    return [
        (path, index)
        for index, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and (all_files or not is_below_foreign(path, folder / name))
        and path.is_file()
    ]


def _made_split(files: list[tuple[Path, int]], shares: dict[str, float]) -> dict[str, list[tuple[Path, int]]]:
    """Return the files in parts, class by class, the same in every run; what ``shares`` leaves is for training."""
    parts: dict[str, list[tuple[Path, int]]] = {"train": [], **{name: [] for name in shares}}
    for index in sorted({label for _, label in files}):
        own = [pair for pair in files if pair[1] == index]
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(own))
        first = 0
        for name, share in shares.items():
            last = first + max(1, round(share * len(own))) if len(own) >= 1 + len(shares) else first
            parts[name] += [own[position] for position in sorted(order[first:last])]
            first = last
        parts["train"] += [own[position] for position in sorted(order[first:])]
    return parts


def _read_files(
    files: list[tuple[Path, int]], spec: PreprocessSpec, spill: Path | None = None
) -> tuple[Tensor, Tensor, list[str]]:
    """Return images (N, H, W, C), labels (N,), and why the other files were skipped."""
    images = _room(len(files), spec, spill)

    def read(index: int) -> str:
        """Read a file into its place; return why that cannot be, or an empty text."""
        try:
            images[index] = torch.from_numpy(preprocess(read_image(files[index][0]), spec))
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
    labels = torch.tensor([files[index][1] for index in kept], dtype=torch.long)
    return images[: len(kept)], labels, [fault for fault in faults if fault]


def _room(count: int, spec: PreprocessSpec, spill: Path | None) -> Tensor:
    """Return a tensor for ``count`` images: in memory, or in a file that ends with it where they take too much of it.

    Raises:
        InputError: There is no room in the folder of the file either.
    """
    shape = (count, spec.height, spec.width, spec.channels)
    size = math.prod(shape)
    text = f"{count} pictures of {spec.width} x {spec.height} x {spec.channels}: {size / 1e6:,.0f} MB"
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
