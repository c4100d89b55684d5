"""The networks by name: build one from a name and a JSON config, and print what it is made of."""

import difflib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .classifiers import cifar_small, cifar_wide, cnn, fcn, st_cnn, st_fcn, st_vgg
from .grid import GridGenerator

REGISTRY: dict[str, Callable[..., nn.Module]] = {
    "fcn": fcn,
    "cnn": cnn,
    "st-fcn": st_fcn,
    "st-cnn": st_cnn,
    "st-vgg": st_vgg,
    "cifar-small": cifar_small,
    "cifar-wide": cifar_wide,
}


_LARGEST = 100_000
"""No size, width or number of classes is larger; a damaged file that says so must not take all memory."""


@dataclass(frozen=True)
class Architecture:
    """A network's name in the registry and its options; options not given keep their defaults."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Return the network, freshly initialised from PyTorch's global seed.

        Raises:
            ValueError: An unknown name, an unknown option, or a value that does not fit.
        """
        return _builder(self.name)(**self.complete())

    def build_without_memory(self) -> nn.Module:
        """Return the network on PyTorch's meta device: shapes only, whatever its size.

        Raises:
            ValueError: As ``build``.
        """
        with torch.device("meta"):
            return self.build()

    def complete(self) -> dict[str, Any]:
        """Return all options with the defaults filled in; sequences as tuples.

        Raises:
            ValueError: An unknown name or option.
        """
        defaults = {key: parameter.default for key, parameter in _options(self.name).items()}
        for key in self.options:
            if key not in defaults:
                near = difflib.get_close_matches(str(key), defaults, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"it takes {', '.join(defaults)}"
                raise ValueError(f"network '{self.name}' has no option '{key}'; {hint}")
        for key, value in self.options.items():
            _check(self.name, key, value, defaults[key])
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in self.options.items()}
        complete = {**defaults, **given}
        channels = complete.get("channels", 3)
        for key in ("mean", "std"):
            if len(complete[key]) not in (1, channels):
                raise ValueError(
                    f"network '{self.name}': option '{key}' has {len(complete[key])} numbers for {channels} channels"
                )
        return complete

    def accepts(self, option: str) -> bool:
        """Return whether the network has an option of that name.

        Raises:
            ValueError: An unknown network name.
        """
        return option in _options(self.name)


def parse_options(text: str) -> dict[str, Any]:
    """Return the options that a JSON object spells, as given on a command line.

    Raises:
        ValueError: Not a JSON object.
    """
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"network options are not JSON ({error}): {text}") from error
    if not isinstance(options, dict):
        raise ValueError(f'network options must be a JSON object such as {{"grid": "tps"}}, got {text}')
    return options


def parameter_table(model: nn.Module) -> str:
    """Return a table of the layers that hold parameters or sample: name, kind, shapes, parameter count."""
    rows = [("layer", "kind", "shape", "parameters")]
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        count = sum(parameter.numel() for parameter in own.values())
        if isinstance(module, GridGenerator):
            height, width = module.output_size
            rows.append((name, type(module).__name__, f"{module.theta_size} -> {height} x {width} x 2", "0"))
        elif own:
            shapes = ", ".join(f"{key} {'x'.join(map(str, value.shape))}" for key, value in own.items())
            rows.append((name, type(module).__name__, shapes, f"{count:,}"))
    total = sum(parameter.numel() for parameter in model.parameters())
    rows.append(("total", "", "", f"{total:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {shape:<{widths[2]}}  {count:>{widths[3]}}"
        for name, kind, shape, count in rows
    ]
    return "\n".join(lines)


def _builder(name: str) -> Callable[..., nn.Module]:
    if name not in REGISTRY:
        raise ValueError(f"no network '{name}'; choose from {', '.join(REGISTRY)}")
    return REGISTRY[name]


def _options(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_builder(name)).parameters


def _check(network: str, key: str, value: object, default: object) -> None:
    """Refuse a value that is not of its default's kind; a default of None stands for an optional whole number."""
    wanted = None
    if default is None or (isinstance(default, int) and not isinstance(default, bool)):
        if not (value is None and default is None) and not _is_whole(value):
            wanted = "a whole number of at least 1"
    elif isinstance(default, float):
        wanted = None if _is_number(value) else "a number"
    elif isinstance(default, tuple):
        fits = isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_number, value))
        wanted = None if fits else "a list of numbers"
    elif not isinstance(value, type(default)):
        wanted = "true or false" if isinstance(default, bool) else "a text"
    if wanted:
        raise ValueError(f"network '{network}': option '{key}' must be {wanted}, got {_brief(value)}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
