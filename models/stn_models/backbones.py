"""Any classification network of torchvision, or of timm where that is installed, with spatial transformers in it."""

import difflib
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import torchvision
from torch import nn

from .insertion import sampled_size, with_transformers
from .sampler import Normalize

TIMM = "timm/"
"""What the names of timm's networks begin with."""

_COLOUR = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_GREY = ((0.449,), (0.226,))
"""Mean and standard deviation of ImageNet's training pictures, which the published weights were trained on."""


def backbone(
    network: str,
    *,
    image_size: int = 224,
    image_width: int | None = None,
    channels: int = 3,
    classes: int = 10,
    transformer: tuple[str, ...] = (),
    output_size: int | None = None,
    stem: Literal["image", "small"] = "image",
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> nn.Module:
    """Return a classification network with random weights and, where asked for, spatial transformers.

    A transformer at the input samples raw pixels, before the normalisation; its localisation net sees the picture
    averaged down to 32 pixels or less.

    Args:
        network: A name in ``backbone_names()``.
        image_size: Height of the pictures, and their width unless ``image_width`` says otherwise; pixels.
        image_width: Width of the pictures, pixels.
        channels: 1 or 3; of one, the first convolution takes one.
        classes: Number of logits.
        transformer: Grid generator and place of each transformer: ``affine@input``, ``tps6@layer1``. It stands in
            front of the submodule of that name; without a place, at the input.
        output_size: Longer side of what a transformer at the input samples, pixels; by default that of the picture.
        stem: ``image`` as published; ``small``, for pictures of 64 pixels and less, leaves out the first two halvings
            and has 3 x 3 for 7 x 7 pixels (He et al. 2016, "Deep Residual Learning", section 4.2).
        mean: What is subtracted, one number a channel or one for all; by default that of ImageNet.
        std: What is divided by; by default that of ImageNet.

    Raises:
        ValueError: A name is unknown, or the network does not take pictures of this size.
    """
    standard = _GREY if channels == 1 else _COLOUR
    normalize = Normalize(mean or standard[0], std or standard[1])
    size = (image_size, image_width or image_size)
    sampled = sampled_size(size, transformer, output_size)
    body = _body(network, sampled, channels, classes)
    if stem == "small":
        _keep_resolution(body)
    return with_transformers(body, normalize, channels, size, sampled, transformer)


@cache
def backbone_names() -> tuple[str, ...]:
    """Return the names of torchvision's classification networks, and of timm's, ``timm/NAME``, where it is there."""
    names = torchvision.models.list_models(module=torchvision.models)
    if find_spec("timm") is not None:
        import timm

        names += [f"{TIMM}{name}" for name in timm.list_models()]
    return tuple(names)


def near_backbones(name: str) -> list[str]:
    """Return up to three networks that are called nearly ``name``."""
    return difflib.get_close_matches(name, backbone_names(), n=3)


def _body(network: str, size: tuple[int, int], channels: int, classes: int) -> nn.Module:
    """Return a network as its package builds it, with random weights."""
    if network.startswith(TIMM):
        import timm

        body: nn.Module = timm.create_model(network.removeprefix(TIMM), num_classes=classes, in_chans=channels)
        return body
    settings: dict[str, Any] = {"weights": None, "num_classes": classes}
    if network in ("googlenet", "inception_v3"):
        settings |= {"aux_logits": False, "init_weights": True}
    elif network.startswith("vit_"):
        settings["image_size"] = size[0]
    elif network.startswith("maxvit"):
        settings["input_size"] = size
    try:
        body = torchvision.models.get_model(network, **settings)
    except (ValueError, AssertionError) as error:  # of a transformer's patches, which must divide the picture
        raise ValueError(
            f"{size[0]} x {size[1]} pixels (height x width) do not fit the network's layers ({error})"
        ) from error
    if channels != 3:
        name, first = _convolutions(body)[0]
        _replace(body, name, _like(first, in_channels=channels))
    return body


def _keep_resolution(body: nn.Module) -> None:
    """Leave out the first two halvings of a network: that of its first convolution, and what pools or strides next.

    Raises:
        ValueError: The network does not begin with a convolution that halves.
    """
    name, first = _convolutions(body)[0]
    if first.stride != (2, 2) or max(first.kernel_size) > 7:
        raise ValueError("the network does not begin with a halving, so it has no small stem; leave that out")
    kernel = min(3, *first.kernel_size)
    _replace(body, name, _like(first, kernel_size=kernel, stride=1, padding=kernel // 2))
    for name, module in body.named_modules():
        if isinstance(module, nn.MaxPool2d):
            _replace(body, name, nn.Identity())
            return
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            if module.groups == module.in_channels:  # of an inverted residual, which has no second branch then
                module.stride = (1, 1)
            return


def _convolutions(body: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, module) for name, module in body.named_modules() if isinstance(module, nn.Conv2d)]


def _like(convolution: nn.Conv2d, **changes: Any) -> nn.Conv2d:  # noqa: ANN401  (PyTorch's own)
    """Return a new convolution with the settings of another but for ``changes``."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    settings = {name: getattr(convolution, name) for name in names}
    return nn.Conv2d(**{**settings, "bias": convolution.bias is not None, **changes})


def _replace(body: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(body.get_submodule(parent), child, module)
