"""Parsed JSON or YAML as frozen dataclasses or keyword arguments; the error for a wrong field names it."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import printable

T = TypeVar("T")

_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_LONGEST_SHOWN, _LONGEST_NAME = 40, 60  # characters of a wrong value, and of a field's name


class FieldError(ValueError):
    """A field that is missing, unknown, or holds a value that does not fit.

    Attributes:
        field: Path of the field, such as ``manifest.transformers[0].theta``.
        fault: What is wrong with it, as the rest of a sentence that starts with the field.
    """

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(f"{field} {fault}")
        self.field = field
        self.fault = fault


def read_as(kind: type[T], value: object, path: str = "", *, refuse_unknown: bool = False) -> T:
    """Return a parsed value as a dataclass.

    Lists become tuples and whole numbers become floats where the annotation says so; nothing else is converted.

    Args:
        kind: A dataclass. Its annotations may be str, int, float, bool, Any, tuples, mappings with texts as keys,
            literals, other dataclasses, and any of these or None.
        value: Value from a JSON or YAML parser.
        path: Name of the value in messages; empty where each field is named alone.
        refuse_unknown: Whether a key that is no field is an error; by default it is ignored.

    Raises:
        FieldError: A field is missing, unknown or of another kind.
    """
    result: T = _read(kind, value, path, refuse_unknown)
    return result


def read_arguments(
    function: Callable[..., object], value: object, path: str = "", *, refuse_unknown: bool = False
) -> dict[str, Any]:
    """Return a parsed object as keyword arguments for ``function``; arguments that are absent keep their defaults.

    Args:
        function: A function, class or partial call whose parameters have annotations as in ``read_as``.
        value: Value from a JSON or YAML parser.
        path: Name of the value in messages.
        refuse_unknown: Whether a key that is no parameter is an error.

    Raises:
        FieldError: An argument is missing, unknown or of another kind.
    """
    values = _mapping(value, path)
    parameters = inspect.signature(function).parameters
    unknown = [name for name in values if name not in parameters]
    if unknown and refuse_unknown:
        near = difflib.get_close_matches(unknown[0], parameters, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(parameters)}"
        raise FieldError(_join(path, unknown[0]), f"is not known; {hint}")
    kinds = get_type_hints(function.func if isinstance(function, partial) else function)
    arguments = {}
    for name, parameter in parameters.items():
        if name in values:
            arguments[name] = _read(kinds[name], values[name], _join(path, name), refuse_unknown)
        elif parameter.default is parameter.empty:
            raise FieldError(_join(path, name), "is missing")
    return arguments


def _read(kind: Any, value: object, path: str, refuse_unknown: bool) -> Any:  # noqa: ANN401  (any annotation)
    """Return ``value`` as the annotated type ``kind``."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return kind(**read_arguments(kind, value, path, refuse_unknown=refuse_unknown))
    if origin in (Union, UnionType):  # another kind, or None
        (other,) = (part for part in parts if part is not NoneType)
        return None if value is None else _read(other, value, path, refuse_unknown)
    if origin is tuple:
        return _tuple(parts, value, path, refuse_unknown)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        values = _mapping(value, path)
        return {key: _read(parts[1], item, _join(path, key), refuse_unknown) for key, item in values.items()}
    if origin is Literal:
        if value not in parts:
            raise FieldError(path, f"must be one of {', '.join(map(str, parts))}; got {_brief(value)}")
        return value
    return _scalar(kind, value, path)


def _tuple(parts: tuple[Any, ...], value: object, path: str, refuse_unknown: bool) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise FieldError(path, f"must be a list, got {_brief(value)}")
    if parts[-1] is Ellipsis:
        parts = parts[:1] * len(value)
    if len(value) != len(parts):
        raise FieldError(path, f"must have {len(parts)} entries, got {_brief(value)}")
    return tuple(
        _read(part, item, f"{path}[{index}]", refuse_unknown)
        for index, (part, item) in enumerate(zip(parts, value, strict=True))
    )


def _mapping(value: object, path: str) -> dict[str, object]:
    """Return an object with its keys as texts; YAML also has numbers as keys."""
    if not isinstance(value, Mapping):
        raise FieldError(path, f"must be an object, got {_brief(value)}")
    return {str(key): item for key, item in value.items()}


def _scalar(kind: type, value: object, path: str) -> object:
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # a whole number of more than 308 digits
            fits = False
    if not fits:
        raise FieldError(path, f"must be {_NAMES[kind]}, got {_brief(value)}")
    return value


def _join(path: str, name: str) -> str:
    name = printable(name, _LONGEST_NAME)
    return f"{path}.{name}" if path else name


def _brief(value: object) -> str:
    return printable(repr(value), _LONGEST_SHOWN)
