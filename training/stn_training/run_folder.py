"""Whether a run may begin in a folder, or go on in it."""

from pathlib import Path

from stn_models import CheckpointError, load_checkpoint
from stn_runtime import InputError
from stn_runtime.machine.filesystem import check_writable, existing_parent

from .config import BENCHMARKS, TrainConfig
from .data.labelled_images import LabelledImages
from .data.listing import folders_of_classes
from .recorder import BEST, LAST


def check_folder(config: TrainConfig, folder: Path, resume: bool) -> None:
    """Refuse a run's folder, before the data are read.

    Raises:
        InputError: It holds another run, lies among the classes of the data, or cannot be written to, or a resumed run
            has lost its data.
    """
    if resume:
        if config.data not in BENCHMARKS and not Path(config.data).exists():
            raise InputError(
                f"{folder}: its data, '{config.data}', are not there; put them back, run this in the folder in which "
                f"it was trained, or write where they are into {folder / 'config.json'}"
            )
    elif (folder / "config.json").exists():
        raise InputError(f"{folder}: holds a training run; go on with --resume {folder}, or give another --output")
    if config.data not in BENCHMARKS and Path(config.data).is_dir():
        among = [place for place in folders_of_classes(Path(config.data)) if folder.resolve().is_relative_to(place)]
        if among and not resume:
            raise InputError(f"{folder}: lies in {among[0]}, where each folder is a class; give another --output")
    check_writable(existing_parent(folder))


def check_same_data(folder: Path, train: LabelledImages) -> None:
    """Refuse to go on with other data than those of a run.

    Raises:
        InputError: The classes or the number of training pictures are others than those of its best weights, or these
            are missing or damaged.
    """
    if not (folder / LAST).exists():
        return
    try:
        _, described = load_checkpoint(folder / BEST)
    except CheckpointError as error:
        raise InputError(f"{folder}: cannot be resumed without its best weights ({error}); train anew") from error
    count = described.training.get("images", len(train))
    if described.labels != tuple(train.classes):
        change = f"the classes {', '.join(train.classes)} now, and had {', '.join(described.labels)}"
    elif count != len(train):
        change = f"{len(train)} training images now, and had {count}"
    else:
        return
    raise InputError(
        f"{folder}: its data have {change}; give it the same data, or train anew, with --weights {folder / BEST}"
    )
