"""The files of a data set, each with its class and group, and how they are split into training, validation and test."""

import csv
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stn_runtime import InputError
from stn_runtime.images.foreign_files import is_below_foreign, is_foreign, passed_over
from stn_runtime.images.reading import IMAGE_SUFFIXES
from stn_runtime.images.unread_kinds import UNREAD_SUFFIXES, unread

log = logging.getLogger(__name__)

_SPLIT_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_SPLIT_SEED = 0
_VAL_AND_TEST, _VAL = {"val": 0.1, "test": 0.1}, {"val": 0.1}


@dataclass(frozen=True)
class LabelledFile:
    """An image file.

    Attributes:
        path: Place of the file.
        label: Index of its class.
        group: Name of what it shows together with others, such as frames of one video; a made split does not tear a
            group apart. Empty for a file that stands alone.
    """

    path: Path
    label: int
    group: str = ""


@dataclass(frozen=True)
class FileOptions:
    """Which files of a folder or table belong to a data set, and what their classes are called.

    A run keeps them: what measures its network on the same data takes the same, or it measures on training pictures.

    Attributes:
        all_files: Whether to take also what other programs left in folders, such as ``._IMG.jpg`` and ``@eaDir``.
        group: Regular expression for the group in a path, see ``grouped``; empty for none.
        class_names: Text file with a name a line, in the order of the folders or labels sorted as text, 1, 10, 2; empty
            for these.
    """

    all_files: bool = False
    group: str = ""
    class_names: str = ""


AS_THEY_ARE = FileOptions()


@dataclass(frozen=True)
class Listing:
    """The files of a data set.

    Attributes:
        source: Name or place of the data set, for messages.
        classes: Names of the classes.
        parts: Files by the name of their part: ``train``, ``val`` and, where there is one, ``test``.
        remarks: Sentences on what was left out.
        unread: Sentence on pictures of kinds that are not read; None where there are none.
    """

    source: str
    classes: tuple[str, ...]
    parts: Mapping[str, Sequence[LabelledFile]]
    remarks: tuple[str, ...] = field(default=())
    unread: str | None = None


def split_names(split: str) -> tuple[str, ...]:
    """Return the names of the parts of a split: train, val, test, or all three."""
    return ("train", "val", "test") if split == "all" else (split,)


def folders_of_classes(root: Path) -> list[Path]:
    """Return the folders, resolved, in which each folder is a class: the root itself, or its parts."""
    parts = [folder.resolve() for folder in _part_folders(root).values() if folder is not None]
    return parts or [root.resolve()]


def _part_folders(root: Path) -> dict[str, Path | None]:
    """Return the folder of each part, whatever its spelling; None for parts that are not there."""
    children = {entry.name.lower(): entry for entry in sorted(root.iterdir()) if entry.is_dir()}
    return {
        name: next((children[spelling] for spelling in spellings if spelling in children), None)
        for name, spellings in _SPLIT_FOLDERS.items()
    }


def list_folder(root: Path, options: FileOptions = AS_THEY_ARE) -> Listing:
    """Return the files of a folder with a folder per class, or with such in ``train`` and ``test`` (and ``val``).

    What is not split already is split 80 : 10 : 10, class by class, the same in every run.

    Args:
        root: The folder.
        options: Say which files to take, what belongs together, and how classes are called.

    Raises:
        InputError: The folder has no classes, or its parts have different ones.
    """
    all_files = options.all_files
    folders = _part_folders(root)
    train = folders["train"]
    if train is None and any(folders.values()):
        other = next(folder.name for folder in folders.values() if folder is not None)
        raise InputError(f"{root}: has a folder '{other}' but none called train; are these splits or classes?")
    if train is None:
        classes = _class_names(root, all_files)
        given = {"train": _class_files(root, classes, all_files)}
        parts, remarks = _with_val(given, root, options.group, _VAL_AND_TEST)
    else:
        classes = _class_names(train, all_files)
        there = {name: folder for name, folder in folders.items() if folder is not None}
        given = {name: _class_files(folder, classes, all_files) for name, folder in there.items()}
        parts, remarks = _with_val(given, root, options.group, _VAL)
    filled = {file.label for files in given.values() for file in files}
    empty = [name for index, name in enumerate(classes) if index not in filled]
    if filled and empty:
        folder = (train or root) / empty[0]
        raise InputError(f"{folder}: has no pictures of kinds that are read, and each folder is a class; take it away")
    remarks += _with_folders(train or root, classes, given["train"])
    remarks += [] if all_files else _passed_over(root)
    return Listing(str(root), _named(classes, options, root), parts, tuple(remarks), _unread(root))


def list_table(path: Path, options: FileOptions = AS_THEY_ARE) -> Listing:
    """Return the files of a CSV table with the columns ``path`` and ``label``, and perhaps ``split`` and ``group``.

    Paths are relative to the table's folder. Without a column ``split`` (train, val or test) the files are split as
    those of a folder.

    Args:
        path: The table; UTF-8, with a comma or a semicolon between columns.
        options: Say what belongs together, in place of the column, and how classes are called.

    Raises:
        InputError: The table cannot be read, or a row of it is not as described.
    """
    rows = read_table(path, ("path", "label"))
    names = sorted({row["label"] for _, row in rows})
    if len(names) < 2:
        raise InputError(f"{path}: needs rows of at least two labels; found {', '.join(names) or 'none'}")
    index = {name: number for number, name in enumerate(names)}
    parts: dict[str, list[LabelledFile]] = {}
    known: dict[Path, tuple[int, str, str]] = {}
    repeated = 0
    for line, row in rows:
        part = (row.get("split") or "").strip().lower() or "train"
        name = next((name for name, spellings in _SPLIT_FOLDERS.items() if part in spellings), None)
        if name is None:
            raise InputError(f"{path}, line {line}: split is '{part}', expected train, val or test")
        file = LabelledFile(path.parent / row["path"], index[row["label"]], row.get("group") or "")
        first, label, place = known.setdefault(file.path, (line, row["label"], name))
        if (label, place) != (row["label"], name):
            apart = f"{label}, and {row['label']}" if label != row["label"] else f"of {place}, and of {name}"
            raise InputError(f"{path}, lines {first} and {line}: {row['path']} is {apart}; it can be one of them")
        repeated += line != first
        if line == first:
            parts.setdefault(name, []).append(file)
    parts, remarks = _with_val(parts, path.parent, options.group, _VAL if "test" in parts else _VAL_AND_TEST)
    remarks += [f"{path}: {repeated} rows say again what another says; they are passed over"] if repeated else []
    return Listing(str(path), _named(names, options, path), parts, tuple(remarks))


def _with_val(
    parts: Mapping[str, Sequence[LabelledFile]], root: Path, group: str, shares: Mapping[str, float]
) -> tuple[dict[str, list[LabelledFile]], list[str]]:
    """Return parts of files with their groups, ``val`` made where it is missing, and sentences on groups.

    Raises:
        InputError: As ``grouped``.
    """
    whole, remark = grouped([file for files in parts.values() for file in files], root, group)
    groups = iter(whole)
    result = {name: [next(groups) for _ in files] for name, files in parts.items()}
    remarks = [remark] if remark else []
    seen = {name: {file.group for file in files if file.group} for name, files in result.items()}
    torn = {name: len(seen.get("train", set()) & names) for name, names in seen.items() if name != "train"}
    remarks += [
        f"{count} groups are in train and in {name}, as the data are split" for name, count in torn.items() if count
    ]
    if "val" not in result and "train" in result:
        result |= made_split(result["train"], shares)
    return result, remarks


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV table, each with the number of its last line, values by column.

    Args:
        path: The table; UTF-8, with a comma or a semicolon between columns.
        columns: Columns that each row must have a value in.

    Raises:
        InputError: The table cannot be read, lacks a column, or a row lacks a value.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            delimiter = next((mark for mark in ",;\t" if mark in header), ",")
            names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            read = [(reader.line_num + 1, values) for values in reader if any(map(str.strip, values))]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); save the table as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({' '.join(str(error).split())})") from error
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(
            f"{path}: has no column '{missing[0]}' in its first line; it has {', '.join(names) or 'nothing'}"
        )
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: has the column '{twice}' twice in its first line")
    return [(line, _row(path, line, names, values, columns)) for line, values in read]


def _row(path: Path, line: int, names: Sequence[str], values: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Return the values of a row by column.

    Raises:
        InputError: There are more values than columns, one spans lines, or one that is needed is missing.
    """
    if len(values) > len(names):
        raise InputError(
            f"{path}, line {line}: has {len(values)} values for {len(names)} columns; put quotes around a text that "
            "holds the separator"
        )
    row = {name: value.strip() for name, value in zip(names, values, strict=False)}
    broken = next((name for name, value in row.items() if "\n" in value or "\r" in value), None)
    if broken is not None:
        raise InputError(f"{path}, line {line}: {broken} spans several lines; look for a quote that is not closed")
    empty = [name for name in columns if not row.get(name)]
    if empty:
        raise InputError(f"{path}, line {line}: has no {empty[0]}")
    return row


def grouped(files: Sequence[LabelledFile], root: Path, pattern: str) -> tuple[list[LabelledFile], str | None]:
    """Return files with their groups, and a sentence on how many there are.

    Args:
        files: The files.
        root: What their paths are relative to when the pattern is applied.
        pattern: Regular expression; the first group in it, or else the whole match, names the group. A file without a
            match keeps the group that it has. Empty for no change.

    Raises:
        InputError: The pattern is no regular expression, or matches no path.
    """
    if not pattern:
        return list(files), None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group '{pattern}': is no regular expression ({error})") from error
    result, matched = [], 0
    for file in files:
        relative = file.path.relative_to(root) if file.path.is_relative_to(root) else file.path
        match = expression.search(relative.as_posix())
        matched += match is not None
        name = (next(iter(match.groups()), None) or match[0]) if match else ""
        if match is not None and not name:
            raise InputError(f"--group '{pattern}': matches nothing in {relative.as_posix()}; it must name the group")
        result.append(replace(file, group=name) if name else file)
    if not matched:
        example = f", such as {relative.as_posix()}" if files else ""
        raise InputError(f"--group '{pattern}': matches no path below {root}{example}")
    count = len({file.group for file in result if file.group})
    return result, f"{matched} of {len(files)} pictures are in {count} groups; what is split here tears none apart"


def made_split(files: Sequence[LabelledFile], shares: Mapping[str, float]) -> dict[str, list[LabelledFile]]:
    """Return the files in parts, class by class, the same in every run; what ``shares`` leaves is for training.

    A group lies in one part, as a whole; its class is that of its first file.
    """
    parts: dict[str, list[LabelledFile]] = {"train": [], **{name: [] for name in shares}}
    groups: dict[str | int, list[LabelledFile]] = {}
    for number, file in enumerate(files):
        groups.setdefault(file.group or number, []).append(file)
    for index in sorted({group[0].label for group in groups.values()}):
        own = [group for group in groups.values() if group[0].label == index]
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(own))
        first = 0
        for name, share in shares.items():
            last = first + max(1, round(share * len(own))) if len(own) >= 1 + len(shares) else first
            parts[name] += [file for position in sorted(order[first:last]) for file in own[position]]
            first = last
        parts["train"] += [file for position in sorted(order[first:]) for file in own[position]]
    return parts


def _named(classes: Sequence[str], options: FileOptions, source: Path) -> tuple[str, ...]:
    """Return the names of classes, from the file of names where there is one, and say which is which.

    Raises:
        InputError: The file cannot be read, or has not as many different names as there are classes.
    """
    if not options.class_names:
        return tuple(classes)
    path = Path(options.class_names)
    names = names_in(path)
    if len(names) != len(classes):
        these = f"names is {len(names)}, and that of the classes of {source} is {len(classes)}"
        raise InputError(f"{path}: the number of {these}, '{classes[0]}' the first")
    log.info("classes by name: %s", ", ".join(f"{own} = {name}" for own, name in zip(classes, names, strict=True)))
    return tuple(names)


def names_in(path: Path) -> list[str]:
    """Return the names of classes in a text file, one a line.

    Raises:
        InputError: The file cannot be read, or has a name twice.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as names of classes ({' '.join(str(error).split())})") from error
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: has the name '{twice}' twice; two classes need two names")
    return names


def _class_folders(folder: Path, all_files: bool) -> set[str]:
    names = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    return names if all_files else {name for name in names if not is_foreign(name)}


def _class_names(folder: Path, all_files: bool) -> tuple[str, ...]:
    names = sorted(_class_folders(folder, all_files))
    if len(names) < 2:
        found = f"1, '{names[0]}'" if names else "0"
        raise InputError(f"{folder}: needs a folder per class, at least two; found {found}")
    return tuple(names)


def _class_files(folder: Path, classes: Sequence[str], all_files: bool) -> list[LabelledFile]:
    unknown = _class_folders(folder, all_files) - set(classes)
    if unknown:
        raise InputError(f"{folder}: has classes that training did not see: {', '.join(sorted(unknown))}")
    return [
        LabelledFile(path, index)
        for index, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and (all_files or not is_below_foreign(path, folder / name))
        and path.is_file()
    ]


def _with_folders(root: Path, classes: Sequence[str], files: Sequence[LabelledFile]) -> list[str]:
    """Return the sentence on the first class whose pictures all lie in folders of their own, as classes would."""
    depth = len(root.parts) + 1
    inside: dict[int, set[str]] = {}
    for file in files:
        inside.setdefault(file.label, set()).add(file.path.parts[depth])
    for label, names in inside.items():
        folder = root / classes[label]
        if len(names) > 1 and all((folder / name).is_dir() for name in names):
            return [
                f"{folder}: its pictures lie in {len(names)} folders, one class here; if each is a class, give {folder}"
            ]
    return []


def _passed_over(root: Path) -> list[str]:
    """Return the sentence that says how many pictures and folders of other programs are passed over."""
    foreign = [path for path in sorted(root.rglob("*")) if is_below_foreign(path, root)]
    pictures = [path for path in foreign if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    folders = [path for path in foreign if path.is_dir() and not path.name.startswith(".")]
    return [passed_over(root, len(pictures), [str((folders or pictures)[0].relative_to(root))])] if pictures else []


def _unread(root: Path) -> str | None:
    """Return the sentence that says how many pictures are of kinds that are not read; None without any."""
    files = [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in UNREAD_SUFFIXES and not is_below_foreign(path, root) and path.is_file()
    ]
    return unread(root, len(files), str(files[0].relative_to(root))) if files else None
