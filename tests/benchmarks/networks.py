"""The networks that the benchmarks measure, and what the same weights look like without this project's samplers."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from stn_models import (
    AffineGrid,
    LocalizationNet,
    Normalize,
    SpatialTransformer,
    insert_spatial_transformer,
    make_transformer,
)
from stn_models.classifiers import cifar_small, st_cnn

_REGRESSION_STD = 0.1  # of the weights behind theta: each picture gets another one, none leaves the picture
_CALIBRATION = 16  # pictures
_COARSE = 8  # pixels across, of the noise that pictures are made of


@dataclass(frozen=True)
class Benchmark:
    """A network to measure.

    Attributes:
        make: Makes it, from images (N, C, H, W) in [0, 1] to logits (N, K).
        shape: (C, H, W) of its input.
        classes: K.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    classes: int

    def build(self) -> nn.Module:
        """Return it in evaluation mode, always with the same weights, its thetas different for each picture."""
        torch.manual_seed(0)
        network = self.make()
        for module in network.modules():
            if isinstance(module, LocalizationNet):
                nn.init.normal_(module.regression.weight, std=_REGRESSION_STD)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            network.train()(as_input(pictures(_CALIBRATION, self.shape)))  # sets the BatchNorms' statistics
        return network.eval()


class Signs(nn.Module):
    """Traffic signs, 48 x 48 RGB, 43 classes: a transformer on the image and one on the first block's feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.on_image = make_transformer(3, (48, 48))
        self.block_1 = nn.Sequential(Normalize((0.5,), (0.5,)), *_block(3, 32))
        self.on_features = make_transformer(32, (24, 24))
        self.trunk = nn.Sequential(*_block(32, 64), *_block(64, 128), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(128 * 6 * 6, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 43))

    def forward(self, image: Tensor) -> Tensor:
        features = self.on_features(self.block_1(self.on_image(image)))
        logits: Tensor = self.head(self.trunk(features))
        return logits


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return [*layers, nn.MaxPool2d(2)]


def _resnet() -> nn.Module:
    network = torchvision.models.resnet18(weights=None, num_classes=10)
    return insert_spatial_transformer(network, "conv1", example=torch.rand(1, 3, 224, 224), grid="affine")


NETWORKS = {
    "cifar-small": Benchmark(cifar_small, (3, 32, 32), 10),
    "st-cnn 42 affine": Benchmark(lambda: st_cnn(image_size=42, grid="affine"), (1, 42, 42), 10),
    "st-cnn 42 tps": Benchmark(lambda: st_cnn(image_size=42, grid="tps"), (1, 42, 42), 10),
    "signs 48, two transformers": Benchmark(Signs, (3, 48, 48), 43),
    "resnet18 224": Benchmark(_resnet, (3, 224, 224), 10),
}
"""The networks by the name in the tables."""


class PlainTransformer(nn.Module):
    """An affine transformer as tutorials write it, with ``affine_grid`` and ``grid_sample``."""

    def __init__(self, transformer: SpatialTransformer) -> None:
        super().__init__()
        self.localization = transformer.localization
        self.output_size = transformer.grid.output_size

    def forward(self, image: Tensor) -> Tensor:
        theta = self.localization(image).view(-1, 2, 3)
        size = [image.shape[0], image.shape[1], *self.output_size]
        grid = functional.affine_grid(theta, size, align_corners=False)
        return functional.grid_sample(image, grid, align_corners=False)


class Cropped(nn.Module):
    """A transformer that computes theta and does not use it: its output is its input's top left corner."""

    def __init__(self, transformer: SpatialTransformer) -> None:
        super().__init__()
        self.localization = transformer.localization
        self.output_size = transformer.grid.output_size

    def forward(self, image: Tensor) -> Tensor:
        self.localization(image)
        height, width = self.output_size
        return image[:, :, :height, :width]


class WithoutSampling(nn.Module):
    """A network that returns (logits, theta) and samples nothing: what is left are its layers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = _replaced(network, Cropped)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        thetas: list[Tensor] = []
        handles = [
            module.localization.register_forward_hook(lambda _module, _inputs, theta: thetas.append(theta))
            for module in self.network.modules()
            if isinstance(module, Cropped)
        ]
        try:
            logits = self.network(image)
        finally:
            for handle in handles:
                handle.remove()
        return logits, torch.cat(thetas, dim=1)


def written_plainly(network: nn.Module) -> nn.Module:
    """Return a network with the same weights and its affine transformers as ``PlainTransformer``."""
    return _replaced(network, PlainTransformer, only=AffineGrid)


def pictures(count: int, shape: tuple[int, int, int]) -> Tensor:
    """Return smooth random pictures (count, C, H, W) uint8, always the same."""
    channels, height, width = shape
    noise = torch.rand(count, channels, _COARSE, _COARSE, generator=torch.Generator().manual_seed(count))
    return (functional.interpolate(noise, (height, width), mode="bilinear") * 255).round().to(torch.uint8)


def as_input(images: Tensor) -> Tensor:
    """Return uint8 pictures as what a network takes: float in [0, 1]."""
    return images.float() / 255


def _replaced(
    network: nn.Module, by: Callable[[SpatialTransformer], nn.Module], only: type[nn.Module] = nn.Module
) -> nn.Module:
    """Return a copy of a network with its transformers, those with a grid of the type ``only``, replaced."""
    copied = copy.deepcopy(network)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, SpatialTransformer) and isinstance(child.grid, only):
                setattr(parent, name, by(child))
    return copied
