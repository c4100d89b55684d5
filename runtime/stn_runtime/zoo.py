"""The released models that come with the package, by name."""

import os
from importlib import resources
from pathlib import Path

from .errors import ModelContractError


def released_models() -> dict[str, Path]:
    """Return the files of the released models by name; empty when none is installed."""
    try:
        folder = Path(str(resources.files("stn_zoo")))
    except ModuleNotFoundError:
        return {}
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def find_model(name_or_path: str | Path) -> Path:
    """Return the file of a released model, or the path itself.

    Raises:
        ModelContractError: There is no such model and no such file.
    """
    path = Path(name_or_path)
    if os.path.isfile(path):  # unlike Path's methods, these say no to a name that is too long
        return path
    if os.path.isdir(path):
        raise ModelContractError(f"{path}: is a folder; give an .onnx file or a released model's name")
    released = released_models()
    if str(name_or_path) in released:
        return released[str(name_or_path)]
    names = ", ".join(released) or "none"
    raise ModelContractError(f"{name_or_path}: no such file and no released model of that name (released: {names})")
