"""Names of a graph's outputs, as the module that it was made of names them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from stn_runtime import InputError


def names_of_outputs(module: nn.Module, example: Sequence[Tensor], input_names: Sequence[str]) -> list[str] | None:
    """Return the names that a module gives its outputs in a dict or named tuple, in the order in which it returns them.

    Inside one another they are joined by dots, and places in lists and tuples are counted from 0: ``boxes.0``. A name
    that an input has gets ``_out`` appended.

    Args:
        module: Any module in evaluation mode.
        example: One batch of its inputs.
        input_names: Names of the graph's inputs.

    Returns:
        One name for each tensor; None where the module names none of them, or does not run.

    Raises:
        InputError: The module returns something else than tensors.
    """
    try:
        with torch.no_grad():
            answer = module(*(tensor.clone() for tensor in example))
    except Exception:  # whatever the module's code raises; tracing it raises that again, and says so
        return None
    leaves = [leaf for leaf in tree_leaves(answer) if leaf is not None]
    other = next((type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor)), None)
    if other is not None or not leaves:
        found = f"something that is no tensor ({other})" if other else "no tensor"
        raise InputError(f"{type(module).__name__} returns {found}; a graph has tensors as outputs, at least one")
    if not isinstance(answer, Mapping) and not hasattr(answer, "_fields"):
        return None
    names = _names("", answer)
    return [f"{name}_out" if name in input_names else name for name in names] or None


def _names(path: str, answer: object) -> list[str]:
    """Return a name for each tensor in what a module returns."""
    if isinstance(answer, Tensor):
        return [path]
    parts: list[tuple[object, object]] = []
    if isinstance(answer, Mapping):
        parts = list(answer.items())
    elif hasattr(answer, "_fields"):
        parts = list(zip(answer._fields, answer, strict=True))  # type: ignore[call-overload]  # a named tuple
    elif isinstance(answer, list | tuple):
        parts = list(enumerate(answer))
    return [name for key, part in parts for name in _names(f"{path}.{key}" if path else str(key), part)]
