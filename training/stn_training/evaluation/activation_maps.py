"""Where a classifier looks: class activation maps by gradients."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from stn_models import SpatialTransformer, recorded_transforms
from stn_runtime.images.preprocessing import Image

from ..pictures import save_figure, tiles_of

_STRENGTH = 0.55
"""Share of the colours of a map in a picture that it lies on."""


def activation_maps(network: nn.Module, images: Tensor, labels: Sequence[int]) -> Tensor:
    """Return how much each part of what the classifier sees speaks for a label (Selvaraju et al. 2017, Grad-CAM).

    The map is taken at the last layer that has a map of features, and enlarged to the size of what the classifier sees:
    behind a transformer at the input, of what that samples.

    Args:
        network: In evaluation mode, on the CPU; maps images to logits (N, K).
        images: (N, C, H, W) in [0, 1].
        labels: Index of the label of each image.

    Returns:
        (N, h, w), each from 0 to 1.

    Raises:
        ValueError: The network has no map of features, as a fully connected one, or gives several labels an image.
    """
    features: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            features.append(output)

    ours = {part for module in network.modules() if isinstance(module, SpatialTransformer) for part in module.modules()}
    layers = [module for module in network.modules() if not list(module.children()) and module not in ours]
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with torch.enable_grad():
            logits = network(images.requires_grad_())
            if not features or logits.ndim != 2:
                raise ValueError("the network has no map of features, or gives an image several labels")
            score = logits[torch.arange(len(images)), torch.as_tensor(labels)].sum()
            (gradient,) = torch.autograd.grad(score, features[-1])
    finally:
        for handle in handles:
            handle.remove()
    maps = (gradient.mean(dim=(2, 3), keepdim=True) * features[-1]).sum(dim=1, keepdim=True).clamp(min=0).detach()
    maps = functional.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def map_tiles(network: nn.Module, images: Tensor, labels: Sequence[int]) -> list[Image] | None:
    """Return pictures of what the classifier sees, coloured where it speaks for a label; None without such maps."""
    try:
        maps = activation_maps(network, images.clone(), labels)
    except ValueError:
        return None
    with torch.no_grad(), recorded_transforms(network) as calls:
        network(images)
    at_input = [call.output for call in calls if call.image.shape == images.shape and call.image.equal(images)]
    seen = at_input[0] if at_input else images
    pairs = zip(tiles_of(seen), tiles_of(maps[:, None]), strict=True)
    return [_coloured(picture, shade) for picture, shade in pairs]


def save_maps(pictures: Sequence[Image], maps: Sequence[Image], names: Sequence[tuple[str, str]], path: Path) -> None:
    """Draw pictures, and below each what speaks for its answer; wrong answers are in red.

    Args:
        pictures: RGB tiles.
        maps: A tile for each.
        names: The true label and the answer for each.
        path: PNG to write.
    """
    figure = Figure(figsize=(1.5 * len(pictures), 3.9), layout="constrained")
    panels = figure.subplots(2, len(pictures), squeeze=False)
    for axes in panels.ravel():
        axes.axis("off")
    for above, below, picture, shades, (true, answer) in zip(*panels, pictures, maps, names, strict=True):
        above.imshow(picture)
        above.set_title(true, fontsize=8, parse_math=False)
        below.imshow(shades)
        colour = "black" if answer == true else "#c00000"
        below.set_title(f"taken for\n{answer}", fontsize=8, color=colour, parse_math=False)
    save_figure(figure, path)


def _coloured(picture: Image, shade: Image) -> Image:
    colours = mpl.colormaps["inferno"](shade[..., 0])[..., :3] * 255
    share = _STRENGTH * (shade[..., :1] / 255)
    mixed: Image = np.rint(picture * (1 - share) + colours * share).astype(np.uint8)
    return mixed
