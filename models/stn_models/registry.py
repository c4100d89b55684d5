"""The networks by name: built from a name and options in JSON, and listed layer by layer."""

import difflib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from stn_runtime.model.schema import FieldError, read_arguments

from .classifiers import cifar_small, cifar_wide, cnn, fcn, st_cnn, st_fcn, st_search, st_vgg
from .grid import GridGenerator
from .staged import speller, vgg

REGISTRY: dict[str, Callable[..., nn.Module]] = {
    "fcn": fcn,
    "cnn": cnn,
    "st-fcn": st_fcn,
    "st-cnn": st_cnn,
    "st-vgg": st_vgg,
    "st-search": st_search,
    "vgg": vgg,
    "speller": speller,
    "cifar-small": cifar_small,
    "cifar-wide": cifar_wide,
}


_CHOICE = f"choose from {', '.join(REGISTRY)}, or any classification network of torchvision, such as resnet18"

_LARGEST = 100_000
"""Largest value of an option that is a whole number; a damaged file that names more must not take all memory."""


@dataclass(frozen=True)
class Architecture:
    """A network's name in the registry and its options; options that are absent keep their defaults."""

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
            ValueError: An unknown name or option, or a value of another kind or out of range.
        """
        try:
            options = read_arguments(_builder(self.name), self.options, refuse_unknown=True)
        except FieldError as error:
            raise ValueError(f"network '{self.name}': option '{error.field}' {error.fault}") from error
        for key, value in options.items():
            if isinstance(value, int) and not isinstance(value, bool) and not 1 <= value <= _LARGEST:
                raise ValueError(f"network '{self.name}': option '{key}' must be from 1 to {_LARGEST}, got {value}")
        complete = {key: parameter.default for key, parameter in _parameters(self.name).items()} | options
        channels = complete.get("channels", 3)
        for key in ("mean", "std"):
            if complete[key] is not None and len(complete[key]) not in (1, channels):
                raise ValueError(
                    f"network '{self.name}': option '{key}' has {len(complete[key])} numbers for {channels} channels"
                )
        return complete

    def accepts(self, option: str) -> bool:
        """Return whether the network has an option of that name.

        Raises:
            ValueError: An unknown network name.
        """
        return option in _parameters(self.name)


def parse_options(text: str) -> dict[str, Any]:
    """Return the options that a JSON object spells, such as the argument of a command.

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
    if name in REGISTRY:
        return REGISTRY[name]
    try:
        from .backbones import TIMM, backbone, backbone_names, near_backbones
    except ModuleNotFoundError as error:
        raise ValueError(f"no network '{name}' without package '{error.name}'; install it, or {_CHOICE}") from error
    if name in backbone_names():
        return partial(backbone, name)
    if name.startswith(TIMM) and find_spec("timm") is None:
        raise ValueError(f"network '{name}' needs package 'timm', which is not installed: pip install timm")
    near = difflib.get_close_matches(name, REGISTRY, n=3) + near_backbones(name)
    hint = f"did you mean {' or '.join(near)}? Otherwise " if near else ""
    raise ValueError(f"no network '{name}'; {hint}{_CHOICE}")


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_builder(name)).parameters
