"""The packages of the extra ``cluster``, loaded when they are needed."""

from importlib import import_module
from typing import Any

from ..errors import MissingDependencyError
from ..machine.interpreter import PIP


def required(name: str) -> Any:  # noqa: ANN401  (a module that may be missing)
    """Return a module of ray or pyarrow.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"--engine ray needs package '{error.name}', which is not installed: {PIP} install 'stn-edge[cluster]'"
        ) from error
