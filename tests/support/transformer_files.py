"""Networks with spatial transformers as people write them, as files of PyTorch's two exporters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stn_export import Optimized

SIZE = (11, 13)  # height and width of the pictures
OUT = (9, 7)  # of what is sampled

Grid = Callable[[Tensor, Tensor, tuple[int, int], bool], Tensor]


def base(out: tuple[int, int], align_corners: bool) -> Tensor:
    """Return the homogeneous coordinates of all pixels, (height * width, 3)."""
    axes = [torch.linspace(-1, 1, size) if align_corners else (torch.arange(size) * 2 + 1) / size - 1 for size in out]
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)


def by_affine_grid(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    return functional.affine_grid(theta, [image.shape[0], image.shape[1], *out], align_corners=corners)


def by_affine_grid_of_the_image(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    return functional.affine_grid(theta, list(image.shape), align_corners=corners)


def by_einsum(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    return torch.einsum("nij,pj->npi", theta, base(out, corners)).reshape(-1, *out, 2)


def by_bmm(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    bases = base(out, corners)[None].expand(theta.shape[0], -1, -1)
    return torch.bmm(bases, theta.transpose(1, 2)).reshape(-1, *out, 2)


def from_the_left(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    return (theta @ base(out, corners).T).permute(0, 2, 1).reshape(-1, *out, 2)


def by_homography(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    tilt = torch.tensor([[[0.1, -0.2, 1.0]]]).expand(theta.shape[0], 1, 3) * theta[:, :1, :1].abs()
    points = base(out, corners) @ torch.cat([theta, tilt], dim=1).transpose(1, 2)
    return (points[..., :2] / (points[..., 2:].abs() + 0.5)).reshape(-1, *out, 2)


def full(values: Tensor) -> Tensor:
    return values.reshape(-1, 2, 3)


def residual(values: Tensor) -> Tensor:
    return torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) + values.reshape(-1, 2, 3)


def attention_by_cat(values: Tensor) -> Tensor:
    scale, x, y = values[:, 0:1], values[:, 1:2], values[:, 2:3]
    zero = torch.zeros_like(scale)
    return torch.cat([scale, zero, x, zero, scale, y], dim=1).reshape(-1, 2, 3)


def attention_by_stack(values: Tensor) -> Tensor:
    scale, x, y = values[:, 0], values[:, 1], values[:, 2]
    zero = torch.zeros_like(scale)
    return torch.stack([torch.stack([scale, zero, x], dim=1), torch.stack([zero, scale, y], dim=1)], dim=1)


def rotation(values: Tensor) -> Tensor:
    cos, sin = torch.cos(values[:, 0]), torch.sin(values[:, 0])
    return torch.stack([cos, -sin, values[:, 1], sin, cos, values[:, 2]], dim=1).reshape(-1, 2, 3)


class Transformer(nn.Module):
    """The spatial transformer of somebody's repository: theta from the picture, a grid, the sampler."""

    def __init__(
        self,
        grid: Grid = by_affine_grid,
        theta: Callable[[Tensor], Tensor] = full,
        numbers: int = 6,
        channels: int = 1,
        size: tuple[int, int] = SIZE,
        out: tuple[int, int] = OUT,
        corners: bool = False,
        padding: str = "zeros",
        mode: str = "bilinear",
    ) -> None:
        super().__init__()
        self.grid, self.theta, self.out = grid, theta, out
        self.corners, self.padding, self.mode = corners, padding, mode
        cells = (size[0] // 4) * (size[1] // 4)
        self.localization = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(channels * cells, numbers))
        generator = torch.Generator().manual_seed(4)
        for parameter in self.localization.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5

    def forward(self, image: Tensor) -> Tensor:
        theta = self.theta(self.localization(image))
        grid = self.grid(theta, image, self.out, self.corners)
        return functional.grid_sample(
            image, grid, mode=self.mode, padding_mode=self.padding, align_corners=self.corners
        )


class OnFeatures(nn.Module):
    """A transformer behind a convolution, and a classifier behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
        self.transformer = Transformer(channels=3, size=(9, 11), out=(5, 6))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(90, 4))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.transformer(self.features(image)))


class FollowsTheSize(Transformer):
    """A transformer that takes pictures of any size and samples as many pixels as it was given."""

    def __init__(self) -> None:
        super().__init__(by_affine_grid_of_the_image)
        self.localization = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 6))


@dataclass(frozen=True)
class Recipe:
    """How a file comes about, and the operators that each of its grids is made of afterwards."""

    network: Callable[[], nn.Module]
    opset: int
    by_torchscript: bool = False
    fixed_batch: bool = False
    channels: int = 1
    steps: list[list[str]] = field(default_factory=lambda: [["MatMul", "Reshape"]])


CLIPPED = [["MatMul", "Max", "Min", "Reshape"]]
RECIPES = {
    "dynamo 18": Recipe(Transformer, 18),
    "dynamo 18, 3 channels": Recipe(lambda: Transformer(channels=3), 18, channels=3),
    "dynamo 18, align_corners": Recipe(lambda: Transformer(corners=True), 18),
    "dynamo 18, align_corners, border": Recipe(
        lambda: Transformer(channels=3, corners=True, padding="border"), 18, channels=3, steps=CLIPPED
    ),
    "dynamo 18, two in series": Recipe(
        lambda: nn.Sequential(Transformer(out=(8, 10)), Transformer(size=(8, 10), out=(6, 5), corners=True)),
        18,
        steps=[["MatMul", "Reshape"]] * 2,
    ),
    "dynamo 18, on feature maps": Recipe(OnFeatures, 18),
    "dynamo 18, fixed batch": Recipe(Transformer, 18, fixed_batch=True),
    "dynamo 20": Recipe(Transformer, 20),
    "dynamo 21, nearest": Recipe(lambda: Transformer(mode="nearest"), 21),
    "dynamo 22, border": Recipe(lambda: Transformer(padding="border"), 22, steps=CLIPPED),
    "dynamo 22, residual theta": Recipe(lambda: Transformer(theta=residual), 22),
    "AffineGrid": Recipe(Transformer, 20, by_torchscript=True),
    "AffineGrid, align_corners": Recipe(lambda: Transformer(corners=True), 20, by_torchscript=True),
    "AffineGrid, fixed batch": Recipe(Transformer, 20, by_torchscript=True, fixed_batch=True),
    "AffineGrid, align_corners, fixed batch": Recipe(
        lambda: Transformer(corners=True), 20, by_torchscript=True, fixed_batch=True
    ),
    "einsum 16": Recipe(lambda: Transformer(by_einsum), 16, by_torchscript=True),
    "einsum 17, align_corners, border": Recipe(
        lambda: Transformer(by_einsum, corners=True, padding="border"), 17, by_torchscript=True, steps=CLIPPED
    ),
    "bmm 16": Recipe(lambda: Transformer(by_bmm), 16, by_torchscript=True),
    "bmm 17, align_corners": Recipe(lambda: Transformer(by_bmm, corners=True), 17, by_torchscript=True),
    "from the left 16": Recipe(lambda: Transformer(from_the_left), 16, by_torchscript=True),
    "from the left 17, reflection": Recipe(
        lambda: Transformer(from_the_left, padding="reflection"), 17, by_torchscript=True
    ),
    "attention by cat 17": Recipe(lambda: Transformer(by_einsum, attention_by_cat, numbers=3), 17, by_torchscript=True),
    "attention by stack 16": Recipe(
        lambda: Transformer(by_bmm, attention_by_stack, numbers=3), 16, by_torchscript=True
    ),
    "rotation 17": Recipe(lambda: Transformer(by_einsum, rotation, numbers=3), 17, by_torchscript=True),
    "residual theta 17": Recipe(lambda: Transformer(by_einsum, residual), 17, by_torchscript=True),
}


@dataclass(frozen=True)
class Pair:
    """A file before and after."""

    recipe: Recipe
    network: nn.Module
    before: Path
    after: Path
    result: Optimized

    def images(self) -> list[NDArray[np.float32]]:
        """Return pictures in batches that the file takes."""
        batches = (2,) if self.recipe.fixed_batch else (1, 3)
        return [pictures((batch, self.recipe.channels, *SIZE)) for batch in batches]


def pictures(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(7).random(shape, np.float32)


def write(recipe: Recipe, network: nn.Module, path: Path) -> Path:
    """Export with PyTorch alone, without any code of this project."""
    example = torch.from_numpy(pictures((2, recipe.channels, *SIZE)))
    names = {"input_names": ["image"], "output_names": ["sampled"], "verbose": False}
    if recipe.by_torchscript:
        axes = None if recipe.fixed_batch else {"image": {0: "N"}, "sampled": {0: "N"}}
        torch.onnx.export(
            network, (example,), str(path), opset_version=recipe.opset, dynamic_axes=axes, dynamo=False, **names
        )
    else:
        axes = None if recipe.fixed_batch else ({0: torch.export.Dim("N")},)
        torch.onnx.export(
            network,
            (example,),
            str(path),
            opset_version=recipe.opset,
            dynamic_shapes=axes,
            dynamo=True,
            external_data=False,
            **names,
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"author": "somebody", "stn_edge": "{}"})
    onnx.save(model, path)
    return path
