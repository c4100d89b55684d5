"""GTSRB, the German traffic signs (Stallkamp et al. 2012): 43 classes, 39,209 training and 12,630 test images."""

from pathlib import Path

import torchvision

from stn_runtime import InputError

from .listing import LabelledFile, Listing, made_split, read_table

SIGNS = (
    "speed limit 20",
    "speed limit 30",
    "speed limit 50",
    "speed limit 60",
    "speed limit 70",
    "speed limit 80",
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no passing",
    "no passing for trucks",
    "right of way",
    "priority road",
    "yield",
    "stop",
    "no vehicles",
    "no trucks",
    "no entry",
    "danger",
    "curve left",
    "curve right",
    "double curve",
    "bumpy road",
    "slippery road",
    "road narrows",
    "road works",
    "traffic signals",
    "pedestrians",
    "children",
    "bicycles",
    "ice and snow",
    "wild animals",
    "end of limits",
    "turn right",
    "turn left",
    "ahead only",
    "ahead or right",
    "ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no passing",
    "end of no passing for trucks",
)
"""The classes in the order of their numbers."""

_TRAINING = ("Final_Training/Images", "Training")
_TABLE = "GT-final_test.csv"


def list_gtsrb(data_dir: Path) -> Listing:
    """Return the files of GTSRB, in the layout of torchvision or of its own archives.

    A tenth of the tracks of each class is for validation. A track, some 30 frames of one sign that comes nearer, is
    never torn apart: its frames are nearly the same picture.

    Args:
        data_dir: Folder with ``GTSRB`` or torchvision's ``gtsrb``; downloaded by torchvision where neither is there.

    Raises:
        InputError: The files are not there and cannot be downloaded, or not as they are published.
    """
    base = _found(data_dir) or _downloaded(data_dir)
    folder = next(base / name for name in _TRAINING if (base / name).is_dir())
    files = [
        LabelledFile(path, int(path.parent.name), f"{path.parent.name}/{path.stem.partition('_')[0]}")
        for path in sorted(folder.glob("*/*.ppm"))
        if path.parent.name.isdecimal()
    ]
    wrong = next((file for file in files if file.label >= len(SIGNS)), None)
    if wrong is not None:
        raise InputError(f"{wrong.path}: class {wrong.label} is none of GTSRB's {len(SIGNS)}")
    parts = made_split(files, {"val": 0.1})
    return Listing("gtsrb", SIGNS, {**parts, "test": _test_files(base)})


def _found(data_dir: Path) -> Path | None:
    """Return the folder that holds training and test images; None where there is none."""
    places = (data_dir / "gtsrb" / "GTSRB", data_dir / "GTSRB", data_dir)
    return next((place for place in places if any((place / name).is_dir() for name in _TRAINING)), None)


def _downloaded(data_dir: Path) -> Path:
    try:
        for split in ("train", "test"):
            torchvision.datasets.GTSRB(str(data_dir), split=split, download=True)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"GTSRB is not in {data_dir} and cannot be downloaded ({' '.join(str(error).split())}); "
            "give its place with --data-dir"
        ) from error
    return data_dir / "gtsrb" / "GTSRB"


def _test_files(base: Path) -> list[LabelledFile]:
    """Return the test images with the classes of their table.

    Raises:
        InputError: The table is missing, or names a class or an image that does not exist.
    """
    images = base / "Final_Test" / "Images"
    places = (base / "Final_Test", images, base, base.parent)
    table = next((place / _TABLE for place in places if (place / _TABLE).is_file()), None)
    if table is None:
        raise InputError(
            f"{base / 'Final_Test'}: has no {_TABLE}, the table of the test images' classes; it is in "
            "GTSRB_Final_Test_GT.zip"
        )
    files = []
    for line, row in read_table(table, ("Filename", "ClassId")):
        path, label = images / row["Filename"], row["ClassId"]
        if not label.isdecimal() or int(label) >= len(SIGNS):
            raise InputError(f"{table}, line {line}: class '{label}' is none of GTSRB's {len(SIGNS)}")
        if not path.is_file():
            raise InputError(f"{table}, line {line}: {path} does not exist; unpack the test images again")
        files.append(LabelledFile(path, int(label)))
    return files
