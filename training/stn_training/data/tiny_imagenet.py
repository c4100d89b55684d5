"""Tiny ImageNet (Stanford CS231n): 200 classes, 500 training and 50 validation pictures each, 64 x 64."""

from pathlib import Path

from stn_runtime import InputError

from .listing import LabelledFile, Listing, made_split

_TEST_SHARE = 0.3
"""Share of all labelled pictures that is for testing in the merged split."""


def list_tiny_imagenet(data_dir: Path, merged: bool = False) -> Listing:
    """Return the files of Tiny ImageNet as they are unpacked, ``tiny-imagenet-200``.

    Of the official split, the validation pictures are for testing, since those called test have no labels, and a
    twentieth of the training pictures is for validation. Of the merged one, training and validation pictures are put
    together, class by class, and 30 % of them are for testing, 5 % for validation.

    Args:
        data_dir: Folder with ``tiny-imagenet-200``.
        merged: Which split.

    Raises:
        InputError: The files are not there, or a table names what does not exist.
    """
    root = data_dir / "tiny-imagenet-200"
    identities = sorted(folder.name for folder in (root / "train").glob("n*") if folder.is_dir())
    if len(identities) < 2:
        raise InputError(
            f"{root}: holds no Tiny ImageNet (train/n01443537/images ...); unpack tiny-imagenet-200.zip into {data_dir}"
        )
    index = {identity: label for label, identity in enumerate(identities)}
    train = [
        LabelledFile(path, label)
        for identity, label in index.items()
        for path in sorted((root / "train" / identity / "images").glob("*.JPEG"))
    ]
    val = _validation_files(root / "val", index)
    if merged:
        parts = made_split([*train, *val], {"test": _TEST_SHARE, "val": 0.05})
    else:
        parts = {**made_split(train, {"val": 0.05}), "test": val}
    name = "tiny-imagenet-merged" if merged else "tiny-imagenet"
    return Listing(name, _names(root / "words.txt", identities), parts)


def _validation_files(folder: Path, index: dict[str, int]) -> list[LabelledFile]:
    table = folder / "val_annotations.txt"
    files = []
    for number, line in enumerate(_lines(table), 1):
        name, _, rest = line.partition("\t")
        identity = rest.partition("\t")[0]
        if identity not in index:
            raise InputError(f"{table}, line {number}: class '{identity}' has no folder in train")
        path = folder / "images" / name
        if not path.is_file():
            raise InputError(f"{table}, line {number}: {path} does not exist; unpack the archive again")
        files.append(LabelledFile(path, index[identity]))
    return files


def _names(table: Path, identities: list[str]) -> tuple[str, ...]:
    """Return the first word of each class, and its number in WordNet where two classes have the same."""
    words = dict(line.partition("\t")[::2] for line in _lines(table))
    names = [words.get(identity, identity).partition(",")[0].strip() for identity in identities]
    return tuple(
        f"{name} ({identity})" if names.count(name) > 1 else name
        for name, identity in zip(names, identities, strict=True)
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); unpack the archive again"
        ) from error
