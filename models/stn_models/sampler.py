"""The sampler: reads an image at the points of a sampling grid."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

Interpolation = Literal["bilinear", "nearest"]
Padding = Literal["zeros", "border", "reflection"]


class Sampler(nn.Module):
    """Samples images on a grid (Jaderberg et al. 2015, section 3.3; ONNX ``GridSample`` opset 16).

    The defaults are PyTorch's, and the one combination for which onnxruntime's CPU kernel has a fast path.

    Args:
        interpolation: ``bilinear`` or ``nearest``; nearest passes no gradient to the grid.
        padding: What lies outside the image: ``zeros``, ``border`` (its edge pixels) or ``reflection``.
        align_corners: Convention of the sampling grid; must agree with the grid generator's.

    Raises:
        ValueError: An option is unknown.
    """

    def __init__(
        self, interpolation: Interpolation = "bilinear", padding: Padding = "zeros", align_corners: bool = False
    ) -> None:
        super().__init__()
        for option, value, known in (
            ("interpolation", interpolation, get_args(Interpolation)),
            ("padding", padding, get_args(Padding)),
        ):
            if value not in known:
                raise ValueError(f"{option} must be one of {', '.join(known)}; got '{value}'")
        self.interpolation = interpolation
        self.padding = padding
        self.align_corners = align_corners

    def forward(self, image: Tensor, grid: Tensor) -> Tensor:
        """Return the image read at each grid point.

        Args:
            image: (N, C, H, W), float.
            grid: (N, h, w, 2), normalised (x, y) input coordinates; taken to the image's type if it differs.

        Returns:
            (N, C, h, w).
        """
        return functional.grid_sample(
            image, grid.to(image.dtype), self.interpolation, self.padding, align_corners=self.align_corners
        )

    def extra_repr(self) -> str:
        """Return what ``print(module)`` shows between the brackets."""
        return f"interpolation={self.interpolation}, padding={self.padding}, align_corners={self.align_corners}"


class Normalize(nn.Module):
    """Subtracts a mean and divides by a standard deviation per channel; both in the unit of the image.

    Constants of the network's config, so they are in the graph but not among the weights.

    Args:
        mean: One number a channel, or one for all.
        std: One number a channel, or one for all; above zero.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        if not mean or not std or (len(mean) != len(std) and 1 not in (len(mean), len(std))):
            raise ValueError(f"mean and std need one number a channel, got {len(mean)} and {len(std)}")
        if min(std) <= 0:
            raise ValueError(f"std must be above zero, got {std}")
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("inverse_std", 1 / torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the normalised image, same shape as ``image`` (N, C, H, W)."""
        return (image - self.mean) * self.inverse_std
