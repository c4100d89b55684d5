"""The classifiers: the networks of Jaderberg et al. 2015, two for CIFAR-10, and the one behind the released models.

Every network takes images (N, C, H, W), float in [0, 1], and returns logits (N, K). It samples first and normalises
after, so that what lies outside the picture is black and not the mean colour.
"""

import bisect
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .grid import make_grid
from .insertion import TransformerClassifier
from .localization import LocalizationNet, VotingLocalizationNet, conv_bn, conv_bn_features, flat_size
from .sampler import Interpolation, Normalize, Padding, Sampler
from .transformer import ParallelTransformers, SpatialTransformer

PARAMETER_BUDGET = 400_000
"""Learnable parameters of each network of the paper's section 4.1 (appendix A.4)."""

_MOST_TRANSFORMERS = 8


def fcn(
    *,
    image_size: int = 28,
    channels: int = 1,
    classes: int = 10,
    width: int | None = None,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return the paper's fully connected network: two hidden layers of ``width`` units."""

    def network(width: int) -> nn.Module:
        classifier = _fully_connected(channels * image_size**2, width, classes)
        return TransformerClassifier(None, Normalize(mean, std), classifier)

    return network(width or _width_for_budget(network))


def cnn(
    *,
    image_size: int = 28,
    channels: int = 1,
    classes: int = 10,
    width: int | None = None,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return the paper's convolutional network: 9 x 9 and 7 x 7 convolutions of ``width`` filters, each pooled."""

    def network(width: int) -> nn.Module:
        classifier = _convolutional(channels, image_size, width, classes)
        return TransformerClassifier(None, Normalize(mean, std), classifier)

    return network(width or _width_for_budget(network))


def st_fcn(
    *,
    image_size: int = 42,
    channels: int = 1,
    classes: int = 10,
    grid: str = "affine",
    transformers: int = 1,
    interpolation: Interpolation = "bilinear",
    padding: Padding = "zeros",
    align_corners: bool = False,
    width: int | None = None,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return ``fcn`` behind one or more parallel transformers that localise with two hidden layers of 32 units."""
    generator = make_grid(grid, (image_size, image_size), align_corners)
    pooling, side = _downsampling(image_size)

    def transformer() -> SpatialTransformer:
        features = nn.Sequential(
            Normalize(mean, std),
            nn.Flatten(),
            nn.Linear(channels * image_size**2, 32),
            nn.ReLU(),
            nn.Linear(32, 32),
            nn.ReLU(),
        )
        return SpatialTransformer(
            LocalizationNet(features, 32, generator), generator, Sampler(interpolation, padding, align_corners)
        )

    def network(width: int) -> nn.Module:
        front = _side_by_side(transformers, transformer)
        classifier = nn.Sequential(pooling, _fully_connected(transformers * channels * side**2, width, classes))
        return TransformerClassifier(front, _normalize(mean, std, transformers), classifier)

    return network(width or _width_for_budget(network))


def st_cnn(
    *,
    image_size: int = 42,
    channels: int = 1,
    classes: int = 10,
    grid: str = "affine",
    transformers: int = 1,
    interpolation: Interpolation = "bilinear",
    padding: Padding = "zeros",
    align_corners: bool = False,
    width: int | None = None,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return ``cnn`` behind one or more parallel transformers.

    They localise with two 5 x 5 convolutions on the halved image.
    """
    generator = make_grid(grid, (image_size, image_size), align_corners)
    pooling, side = _downsampling(image_size)

    def transformer() -> SpatialTransformer:
        convolutions = nn.Sequential(
            Normalize(mean, std),
            nn.AvgPool2d(2),
            nn.Conv2d(channels, 20, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(20, 20, 5),
            nn.ReLU(),
            nn.Flatten(),
        )
        flat = flat_size(convolutions, channels, (image_size, image_size))
        features = nn.Sequential(convolutions, nn.Linear(flat, 20), nn.ReLU())
        return SpatialTransformer(
            LocalizationNet(features, 20, generator), generator, Sampler(interpolation, padding, align_corners)
        )

    def network(width: int) -> nn.Module:
        front = _side_by_side(transformers, transformer)
        classifier = nn.Sequential(pooling, _convolutional(transformers * channels, side, width, classes))
        return TransformerClassifier(front, _normalize(mean, std, transformers), classifier)

    return network(width or _width_for_budget(network))


def st_vgg(
    *,
    image_size: int = 64,
    output_size: int = 32,
    channels: int = 3,
    classes: int = 10,
    grid: str = "affine",
    interpolation: Interpolation = "bilinear",
    padding: Padding = "zeros",
    align_corners: bool = False,
    width: int = 32,
    dropout: float = 0.2,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return a small batch-normalised network of 3 x 3 convolutions behind a transformer: one's own images, a camera.

    The transformer samples ``output_size`` pixels; at less than half of ``image_size`` bilinear sampling aliases.
    """
    generator = make_grid(grid, (output_size, output_size), align_corners)
    features, count = conv_bn_features(channels, (image_size, image_size), (16, 32, 32), 2, Normalize(mean, std))
    transformer = SpatialTransformer(
        LocalizationNet(features, count, generator), generator, Sampler(interpolation, padding, align_corners)
    )
    return TransformerClassifier(
        transformer, Normalize(mean, std), _vgg(channels, output_size, width, dropout, classes)
    )


def st_search(
    *,
    image_size: int = 160,
    output_size: int = 28,
    channels: int = 3,
    classes: int = 10,
    grid: str = "similarity",
    interpolation: Interpolation = "bilinear",
    padding: Padding = "zeros",
    align_corners: bool = False,
    width: int = 32,
    dropout: float = 0.2,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return the classifier of ``st_vgg`` behind a transformer that finds a small object anywhere in a whole frame.

    Each cell of a feature map of an eighth of the picture's side, which also sees what lies far around it, votes for
    a theta.
    """
    generator = make_grid(grid, (output_size, output_size), align_corners)
    near = nn.Sequential(
        Normalize(mean, std),
        conv_bn(channels, 12, stride=2),
        conv_bn(12, 24, stride=2),
        conv_bn(24, 48, stride=2),
    )
    far = nn.Sequential(
        conv_bn(48, 64, stride=2),
        conv_bn(64, 64),
        conv_bn(64, 64, dilation=2),  # so that one cell sees a picture's width
        conv_bn(64, 64, dilation=2),
        nn.Conv2d(64, 48, 1),
    )
    side = -(-image_size // 8)
    transformer = SpatialTransformer(
        VotingLocalizationNet(_NearAndFar(near, far, conv_bn(48, 48)), 48, (side, side), generator),
        generator,
        Sampler(interpolation, padding, align_corners),
    )
    return TransformerClassifier(
        transformer, Normalize(mean, std), _vgg(channels, output_size, width, dropout, classes)
    )


class _NearAndFar(nn.Module):
    """Adds what is seen from afar, at half the resolution, to what is seen nearby (Lin et al. 2017, FPN)."""

    def __init__(self, near: nn.Module, far: nn.Module, joined: nn.Module) -> None:
        super().__init__()
        self.near, self.far, self.joined = near, far, joined

    def forward(self, image: Tensor) -> Tensor:
        near = self.near(image)
        far = self.far(near)
        if near.shape[2] == 2 * far.shape[2] and near.shape[3] == 2 * far.shape[3]:
            far = functional.interpolate(far, scale_factor=2, mode="nearest")  # the Resize that OpenCV 4 reads
        else:
            far = functional.interpolate(far, near.shape[2:], mode="nearest")
        joined: Tensor = self.joined(near + far)
        return joined


def cifar_small(
    *,
    grid: str = "affine",
    classes: int = 10,
    dropout: float = 0.5,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return the small CIFAR-10 network, 32 x 32 RGB: 39,884 parameters with an affine transformer."""
    return _cifar((8, 10), (10, 20), grid, classes, dropout, mean, std)


def cifar_wide(
    *,
    grid: str = "affine",
    classes: int = 10,
    dropout: float = 0.5,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return the wide CIFAR-10 network, 32 x 32 RGB."""
    return _cifar((64, 128), (32, 64), grid, classes, dropout, mean, std)


def _cifar(
    localization_filters: tuple[int, int],
    filters: tuple[int, int],
    grid: str,
    classes: int,
    dropout: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> nn.Module:
    generator = make_grid(grid, (32, 32))
    features = nn.Sequential(
        Normalize(mean, std),
        nn.Conv2d(3, localization_filters[0], 7),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(localization_filters[0], localization_filters[1], 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(localization_filters[1] * 4 * 4, 32),
        nn.ReLU(),
    )
    classifier = nn.Sequential(
        nn.Conv2d(3, filters[0], 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(filters[0], filters[1], 5),
        nn.Dropout2d(dropout),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(filters[1] * 5 * 5, 50),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(50, classes),
    )
    transformer = SpatialTransformer(LocalizationNet(features, 32, generator), generator)
    return TransformerClassifier(transformer, Normalize(mean, std), classifier)


def _side_by_side(count: int, transformer: Callable[[], SpatialTransformer]) -> nn.Module:
    """Return a new transformer, or ``count`` parallel ones.

    Raises:
        ValueError: More transformers than ``_MOST_TRANSFORMERS``.
    """
    if count > _MOST_TRANSFORMERS:
        raise ValueError(f"{count} parallel transformers are too many; {_MOST_TRANSFORMERS} is the most")
    made = [transformer() for _ in range(count)]
    return made[0] if count == 1 else ParallelTransformers(made)


def _normalize(mean: tuple[float, ...], std: tuple[float, ...], count: int) -> Normalize:
    """Return the normalisation of what ``count`` parallel transformers join; one number stands for all channels."""
    return Normalize(*(values if len(values) == 1 else values * count for values in (mean, std)))


def _vgg(channels: int, size: int, width: int, dropout: float, classes: int) -> nn.Module:
    trunk = nn.Sequential(
        conv_bn(channels, width),
        nn.MaxPool2d(2),
        conv_bn(width, 2 * width),
        conv_bn(2 * width, 2 * width),
        nn.MaxPool2d(2),
        conv_bn(2 * width, 4 * width),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
    )
    return nn.Sequential(trunk, nn.Linear(flat_size(trunk, channels, (size, size)), classes))


def _fully_connected(inputs: int, width: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes)
    )


def _convolutional(channels: int, size: int, width: int, classes: int) -> nn.Module:
    # Pooling rounds up, as the paper's framework did: at 21 pixels the 7 x 7 convolution needs the 7th row.
    side = -(-(size - 8) // 2) - 6  # after the second convolution
    if side < 1:
        raise ValueError(f"{size} x {size} pixels are too few for a 9 x 9 and a 7 x 7 convolution; 21 is the least")
    layers = nn.Sequential(
        nn.Conv2d(channels, width, 9),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.ReLU(),
        nn.Conv2d(width, width, 7),
        nn.MaxPool2d(2, ceil_mode=True) if side > 1 else nn.Identity(),  # OpenVINO refuses to pool a single pixel
        nn.ReLU(),
        nn.Flatten(),
    )
    return nn.Sequential(layers, nn.Linear(width * (-(-side // 2)) ** 2, classes))


def _downsampling(image_size: int) -> tuple[nn.Module, int]:
    """Return the pooling behind the transformer, and the side after it: appendix A.4 halves the larger images."""
    return (nn.AvgPool2d(2), image_size // 2) if image_size >= 42 else (nn.Identity(), image_size)


def _width_for_budget(network: Callable[[int], nn.Module]) -> int:
    """Return the width that brings ``network(width)`` nearest to PARAMETER_BUDGET."""

    def parameters(width: int) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in network(width).parameters())

    widths = range(8, 1024)
    above = bisect.bisect_left(widths, PARAMETER_BUDGET, key=parameters)
    candidates = widths[max(above - 1, 0) : above + 1]
    return min(candidates, key=lambda width: abs(parameters(width) - PARAMETER_BUDGET))
