"""The boxes of a detection data set, from COCO's JSON, YOLO's text files, or lines of ``id, height, width, bbox``."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from stn_runtime import InputError
from stn_runtime.errors import printable

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_LINE = re.compile(
    rf"^id:\s*(\d+),\s*height:\s*{_NUMBER},\s*width:\s*{_NUMBER},\s*bbox:\s*\[{', *'.join([_NUMBER] * 4)}\],?$"
)
"""Takes ``id: 3, height: 480, width: 640, bbox:[10, 20, 100.5, 50],``; leaves a line with three numbers in brackets."""
_EXAMPLE_LINE = "id: 0, height: 480, width: 640, bbox:[10, 20, 100, 50]"
_NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
_LEAST_SHARE = 1e-5
_MOST_CLASSES = 9_999
_LONGEST_NAME = 200
_ROUNDING = 1.01
"""Share of its picture's side that a box may have: annotators round to whole pixels."""


@dataclass(frozen=True)
class Annotations:
    """The usable boxes of a data set.

    Attributes:
        source: Place of the data set, for messages.
        boxes: (N, 4) left, top, width, height as shares of the picture's width and height.
        labels: (N,) index of each box's class.
        classes: Names of the classes.
        owners: (N,) index of the picture that each box is in; of lines, which name no pictures, -1.
        pictures: Path of each picture below a folder of pictures; of YOLO's, without a suffix.
        faults: What was wrong with boxes that are left out, each with how many and the first of them.
        remarks: Sentences on what is odd and was kept, or passed over as intended.
    """

    source: str
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    owners: NDArray[np.int32]
    pictures: tuple[str, ...] = ()
    faults: tuple["Fault", ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """What is wrong with some boxes.

    Attributes:
        reason: What is wrong.
        count: How many boxes it is wrong with.
        first: Which box is the first of them.
    """

    reason: str
    count: int
    first: str


@dataclass
class _Rows:
    """Boxes as they are read: left, top, width, height, width and height of the picture; index of class and picture."""

    values: list[tuple[float, ...]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    faults: dict[str, tuple[int, str]] = field(default_factory=dict)

    def refuse(self, reason: str, which: str) -> None:
        """Count a box that is left out."""
        count, first = self.faults.get(reason, (0, which))
        self.faults[reason] = (count + 1, first)

    def add(self, box: Sequence[float], size: tuple[float, float], label: int, owner: int, which: str) -> None:
        """Take a box, or count it among those that are left out.

        Args:
            box: Left, top, width, height, in the unit of ``size``.
            size: Width and height of its picture.
            label: Index of its class.
            owner: Index of its picture.
            which: Name of the box for messages.
        """
        fault = _fault(box, size)
        if fault:
            self.refuse(fault, which)
            return
        self.values.append((*box, *size))
        self.labels.append(label)
        self.owners.append(owner)


def read_annotations(path: Path, class_names: Sequence[str] = ()) -> Annotations:
    """Return the boxes of a data set.

    Args:
        path: A COCO file (.json), a folder with YOLO's text files (``class x y width height``, shares of the picture;
            polygons count as the box around them), or a text file of lines such as ``id: 0, height: 480, width: 640,
            bbox:[10, 20, 100, 50]``, where the id is that of the class and the rest is in pixels.
        class_names: Names in place of the file's, or of the numbers where it has none.

    Raises:
        InputError: The annotations cannot be read, hold no usable box, or have other classes than the names say.
    """
    if path.is_dir():
        return _read_yolo(path, class_names)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file or folder of annotations")
    return _read_coco(path, class_names) if path.suffix.lower() == ".json" else _read_lines(path, class_names)


def _read_coco(path: Path, class_names: Sequence[str]) -> Annotations:
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file, object_hook=_compact)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({printable(str(error), 200)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no COCO file, whose outermost value is an object with images and annotations")
    for name in ("images", "annotations", "categories"):
        if not isinstance(content.get(name), list) or not content[name]:
            raise InputError(f"{path}: has no '{name}', which a COCO file of boxes lists; is it one of another kind?")
    listed = [entry for entry in content["categories"] if isinstance(entry, dict) and _is_key(entry.get("id"))]
    categories = {entry["id"]: str(entry.get("name") or entry["id"]) for entry in listed}
    order = {identity: index for index, identity in enumerate(sorted(categories, key=_by_number))}
    names = _names([categories[identity] for identity in order], class_names, path)
    sizes, pictures = _coco_pictures(content["images"])
    rows, crowds = _Rows(), 0
    for place, entry in enumerate(tqdm(content["annotations"], "boxes", leave=False, disable=None)):
        if not isinstance(entry, _Box):
            rows.refuse("without a bbox and an image_id", f"number {place}")
            continue
        which = f"annotation {printable(str(entry.identity if entry.identity is not None else place), 40)}"
        owner = sizes.get(entry.picture) if _is_key(entry.picture) else None
        if entry.crowd:
            crowds += 1
        elif owner is None:
            rows.refuse("of an image that is not listed", f"{which}, image_id {_spelled(entry.picture)}")
        elif not _is_key(entry.category) or entry.category not in order:
            rows.refuse("of a category that is not listed", f"{which}, id {_spelled(entry.category)}")
        else:
            rows.add(entry.box, owner[:2], order[entry.category], owner[2], which)
    remarks = [f"{crowds:,} boxes around crowds (iscrowd) are passed over"] if crowds else []
    twice = {"images": len(content["images"]) - len(sizes), "categories": len(content["categories"]) - len(categories)}
    remarks += [f"{count:,} {name} share an id, of which the last counts" for name, count in twice.items() if count]
    return _annotations(path, rows, names, pictures, remarks)


@dataclass(frozen=True, slots=True)
class _Box:
    """What is kept of one of COCO's annotations; its outline, which is most of the file, is not."""

    identity: Any
    picture: Any
    category: Any
    box: Any
    crowd: bool


def _compact(entry: dict[str, Any]) -> Any:  # noqa: ANN401  (any JSON)
    if "bbox" in entry and "image_id" in entry:
        crowd = entry.get("iscrowd") == 1
        return _Box(entry.get("id"), entry["image_id"], entry.get("category_id"), entry["bbox"], crowd)
    return entry


def _coco_pictures(entries: Sequence[Any]) -> tuple[dict[Any, tuple[float, float, int]], list[str]]:
    """Return width, height and index of each picture by its id, and their files."""
    sizes: dict[Any, tuple[float, float, int]] = {}
    files: list[str] = []
    for entry in entries:
        identity = entry.get("id") if isinstance(entry, dict) else None
        if identity is None or not _is_key(identity):
            continue
        width, height = (float(side) if _is_number(side) else 0.0 for side in map(entry.get, ("width", "height")))
        sizes[identity] = (width, height, len(files))
        files.append(str(entry.get("file_name") or ""))
    return sizes, files


def _read_yolo(folder: Path, class_names: Sequence[str]) -> Annotations:
    files: list[Path] = [
        path for path in sorted(folder.rglob("*.txt")) if path.name not in _NAME_FILES and path.is_file()
    ]
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise InputError(f"{folder}: holds no .txt file with YOLO's boxes, a line 'class x y width height' each")
    rows = _Rows()
    for owner, path in enumerate(tqdm(files, "files", leave=False, disable=None)):
        for line, text in _lines(path):
            which = f"{path.relative_to(folder)}, line {line}"
            values = _numbers(text)
            if values is None or len(values) < 5 or len(values) % 2 == 0:
                rows.refuse("not a class and the four numbers of a box, or a polygon", which)
            elif not (0 <= values[0] <= _MOST_CLASSES and values[0] == int(values[0])):
                rows.refuse("of a class that is no whole number from 0 on", which)
            else:
                rows.add(_yolo_box(values[1:]), (1, 1), int(values[0]), owner, which)
    names = _numbered(rows, class_names or _yolo_names(folder), folder)
    pictures = [str(path.relative_to(folder).with_suffix("")) for path in files]
    return _annotations(folder, rows, names, pictures, [])


def _yolo_box(values: Sequence[float]) -> tuple[float, ...]:
    """Return left, top, width, height of a centre and a size, or of a polygon."""
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, width, height
    across, down = values[::2], values[1::2]
    return min(across), min(down), max(across) - min(across), max(down) - min(down)


def _yolo_names(folder: Path) -> Sequence[str]:
    """Return the names of the classes from a file beside the labels or above them; none where there is no such file.

    Raises:
        InputError: The file cannot be read.
    """
    places = [place / name for place in (folder, folder.parent) for name in _NAME_FILES]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix not in (".yaml", ".yml"):
            return [line.strip() for line in text.splitlines() if line.strip()]
        content = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as names of classes ({printable(str(error), 200)})") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise InputError(f"{path}: has no list 'names' of the classes")
    return [str(name) for name in names]


def _read_lines(path: Path, class_names: Sequence[str]) -> Annotations:
    rows = _Rows()
    for line, text in _lines(path):
        match = _LINE.match(text)
        if match is None:
            rows.refuse(f"not a line as '{_EXAMPLE_LINE}'", f"line {line}")
            continue
        height, width, *box = map(float, match.groups()[1:])
        rows.add(box, (width, height), int(match[1]), -1, f"line {line}")
    return _annotations(path, rows, _numbered(rows, class_names, path), [], [])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not empty, each with its number.

    Raises:
        InputError: The file cannot be read as text.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line.strip()) for number, line in enumerate(file, 1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as annotations in text ({printable(str(error), 200)})") from error


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.split()]
    except ValueError:
        return None


def _annotations(
    path: Path, rows: _Rows, names: Sequence[str], pictures: Sequence[str], remarks: Sequence[str]
) -> Annotations:
    faults = [Fault(reason, count, first) for reason, (count, first) in rows.faults.items()]
    if not rows.values:
        shown = "; ".join(f"{fault.count:,} {fault.reason} ({fault.first})" for fault in faults) or "it lists none"
        raise InputError(f"{path}: has no usable box: {shown}")
    values = np.asarray(rows.values, np.float64)
    boxes = values[:, :4] / values[:, [4, 5, 4, 5]]
    beyond = np.count_nonzero((boxes[:, :2] < 1 - _ROUNDING).any(1) | (boxes[:, :2] + boxes[:, 2:] > _ROUNDING).any(1))
    if beyond:
        remarks = [*remarks, f"{beyond:,} boxes reach beyond their picture; their sizes are taken as they are"]
    labels, owners = np.asarray(rows.labels, np.int32), np.asarray(rows.owners, np.int32)
    shares = boxes.astype(np.float32)
    classes = tuple(printable(name, _LONGEST_NAME) for name in names)
    return Annotations(str(path), shares, labels, classes, owners, tuple(pictures), tuple(faults), tuple(remarks))


def _names(own: Sequence[str], given: Sequence[str], path: Path) -> Sequence[str]:
    if given and len(given) != len(own):
        raise InputError(f"{path}: has {len(own)} classes, but there are {len(given)} names for them")
    return given or own


def _numbered(rows: _Rows, names: Sequence[str], path: Path) -> Sequence[str]:
    """Return the names of classes that are known by numbers from 0 on.

    Raises:
        InputError: A number is beyond the names.
    """
    most = max(rows.labels, default=-1)
    if names and most >= len(names):
        raise InputError(f"{path}: has a box of class {most}, but there are {len(names)} names, 0 to {len(names) - 1}")
    if most > _MOST_CLASSES:
        raise InputError(f"{path}: has a box of class {most}; classes are numbered from 0 on")
    return names or [str(number) for number in range(most + 1)]


def _fault(box: Any, size: tuple[float, float]) -> str:  # noqa: ANN401  (any JSON)
    """Return what is wrong with a box, or an empty text."""
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(map(_is_number, box)):
        return "without four finite numbers for its bbox"
    width, height = size
    if not (_is_number(width) and _is_number(height) and width > 0 and height > 0):
        return "of an image without a width and a height"
    for side, whole, name in ((box[2], width, "width"), (box[3], height, "height")):
        if side <= 0:
            return f"of zero {name}" if side == 0 else f"of negative {name}"
        if side > whole * _ROUNDING:
            return f"of more {name} than its image"
        if side < whole * _LEAST_SHARE:
            return f"of hardly any {name}, less than a hundred-thousandth of its image's"
    return ""


def _spelled(value: object) -> str:
    """Return a value as JSON has it: a text in quotes, so that "7" is not taken for 7."""
    return printable(json.dumps(value, default=str), 40)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12


def _is_key(value: object) -> bool:
    return isinstance(value, (int, str))


def _by_number(key: object) -> tuple[bool, int, str]:
    return (False, key, "") if isinstance(key, int) else (True, 0, str(key))
