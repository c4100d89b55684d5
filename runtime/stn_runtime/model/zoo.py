"""The released models that come with the package, by name."""

import os
from importlib import resources
from pathlib import Path

from ..errors import ModelContractError

DEFAULT_MODEL = "digits"
"""The released model that commands take when none is named."""


def released_models() -> dict[str, Path]:
    """Return the files of the released models by name; empty when none is installed."""
    try:
        folder = Path(str(resources.files("stn_zoo")))
    except ModuleNotFoundError:
        return {}
    return {path.stem: path for path in sorted(folder.glob("*.onnx"), key=lambda path: path.stem)}


def find_model(name_or_path: str | Path) -> Path:
    """Return the file of a released model, or the path itself.

    A released model goes before a file or folder of its name in the working folder, which ``./NAME`` means.

    Raises:
        ModelContractError: There is no such model and no such file, or it cannot be read.
    """
    path = Path(name_or_path)
    released = released_models()
    if str(name_or_path) in released:
        return released[str(name_or_path)]
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ModelContractError(f"{str(path)!r}: the name is not UTF-8, which onnxruntime needs; rename it") from error
    if os.path.isfile(path):  # unlike Path's methods, these say no to a name that is too long
        if not os.access(path, os.R_OK):
            raise ModelContractError(f"{path}: cannot be read (Permission denied)")
        return path
    if os.path.isdir(path):
        raise ModelContractError(f"{path}: is a folder; give an .onnx file or a released model's name")
    names = ", ".join(released) or "none"
    raise ModelContractError(f"{name_or_path}: no such file and no released model of that name (released: {names})")
