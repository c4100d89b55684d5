"""Localisation nets: from an image to the parameters theta (Jaderberg et al. 2015, section 3.1)."""

import torch
from torch import Tensor, nn

from .grid import GridGenerator, output_points

_SHARPNESS = 4.0
_MOST_LOG_SCALE = 4.0


class LocalizationNet(nn.Module):
    """Features of an image, then one linear layer that regresses theta.

    The linear layer starts with zero weights and the identity as its bias, so an untrained transformer passes its
    input through. ``features`` brings its own input normalisation, since the image arrives as the sampler sees it.
    Under autocast the linear layer stays in float32: eight bits of mantissa move sampling points by visible amounts.

    Args:
        features: Any module from (N, C, H, W) to something that flattens to (N, feature_count).
        feature_count: How many features that is.
        grid: The grid generator that theta is for.
    """

    def __init__(self, features: nn.Module, feature_count: int, grid: GridGenerator) -> None:
        super().__init__()
        self.features = features
        self.regression = nn.Linear(feature_count, grid.theta_size)
        nn.init.zeros_(self.regression.weight)
        with torch.no_grad():
            self.regression.bias.copy_(grid.identity())

    def forward(self, image: Tensor) -> Tensor:
        """Return theta, (N, theta_size), for images (N, C, H, W)."""
        features = self.features(image).flatten(1)
        if is_autocast(image):
            with torch.autocast(image.device.type, enabled=False):
                return self._regress(features.float())
        return self._regress(features)

    def _regress(self, features: Tensor) -> Tensor:
        theta: Tensor = self.regression(features)
        return theta


class VotingLocalizationNet(nn.Module):
    """A localisation net for a small object in a whole frame: every cell of a feature map votes for a theta.

    A cell at (x, y) votes for the identity scaled and moved to where it lies, plus a residual, and gives its vote a
    score; theta is the expectation of the votes under the softmax of the scores. As with heat maps, and unlike with
    fully connected layers, where an object lies has not to be learned place by place (Nibali et al. 2018, "Numerical
    Coordinate Regression with Convolutional Neural Networks"). Scores and votes are a mixture of experts, and can be
    trained as one where the wanted theta is known (Jacobs et al. 1991, "Adaptive Mixtures of Local Experts").
    In float32 also under autocast.

    Args:
        features: Maps an image (N, C, H, W) to a feature map (N, F, h, w).
        feature_count: F.
        size: (h, w).
        grid: The grid generator that theta is for.
    """

    identity: Tensor
    places: Tensor

    def __init__(self, features: nn.Module, feature_count: int, size: tuple[int, int], grid: GridGenerator) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Conv2d(feature_count, 2 + grid.theta_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.tally = Tally()
        cells = output_points(size, False).float()
        self.register_buffer("identity", grid.identity()[:, None], persistent=False)
        self.register_buffer("places", (cells @ grid.translations()).T.contiguous(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return theta, (N, theta_size), for images (N, C, H, W)."""
        features = self.features(image)
        if is_autocast(image):
            with torch.autocast(image.device.type, enabled=False):
                return self._elected(features.float())
        return self._elected(features)

    def _elected(self, features: Tensor) -> Tensor:
        answers = self.head(features).flatten(2)  # (N, 2 + theta_size, cells)
        scale = torch.exp(answers[:, 1:2].clamp(-_MOST_LOG_SCALE, _MOST_LOG_SCALE))
        theta: Tensor = self.tally(answers[:, 0], scale * self.identity + self.places + answers[:, 2:])
        return theta


class Tally(nn.Module):
    """The expectation of votes under the softmax of their scores.

    The softmax is sharpened, so that of two objects the better one is seen, and not the middle between both.
    """

    def forward(self, scores: Tensor, votes: Tensor) -> Tensor:
        """Return theta (N, P) for scores (N, cells) and votes (N, P, cells)."""
        weights = torch.softmax(_SHARPNESS * scores, dim=1)
        return torch.matmul(votes, weights[:, :, None]).flatten(1)


def is_autocast(tensor: Tensor) -> bool:
    """Return whether autocast is on for the tensor's device; theta, grid and sampler then step out of it."""
    device = tensor.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def flat_size(features: nn.Module, channels: int, size: tuple[int, int]) -> int:
    """Return how many numbers ``features`` makes of one image of ``channels`` x ``size`` (height, width).

    Raises:
        ValueError: The image is too small for the module.
    """
    was_training = features.training
    features.eval()
    try:
        with torch.no_grad():
            return int(features(torch.zeros(1, channels, *size)).numel())
    except RuntimeError as error:
        height, width = size
        raise ValueError(f"{width} x {height} pixels are too few for the layers behind them ({error})") from error
    finally:
        features.train(was_training)


def conv_features(channels: int, size: tuple[int, int], filters: int = 20, hidden: int = 20) -> tuple[nn.Module, int]:
    """Return features for a feature map or image of any size, and their count.

    Two padded 5 x 5 convolutions, each halving the size, and a hidden layer.

    Args:
        channels: Channels of the input.
        size: (height, width) of the input, pixels.
        filters: Filters of each convolution.
        hidden: Units of the hidden layer, and so the count.
    """
    convolutions = nn.Sequential(
        nn.Conv2d(channels, filters, 5, padding=2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.ReLU(),
        nn.Conv2d(filters, filters, 5, padding=2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.ReLU(),
    )
    flat = flat_size(convolutions, channels, size)
    return nn.Sequential(convolutions, nn.Flatten(), nn.Linear(flat, hidden), nn.ReLU()), hidden


def conv_bn_features(
    channels: int,
    size: tuple[int, int],
    filters: tuple[int, ...],
    reduction: int,
    normalize: nn.Module | None = None,
    hidden: int = 64,
) -> tuple[nn.Module, int]:
    """Return features of an image or feature map, and their count: batch-normalised 3 x 3 convolutions, each pooled.

    Args:
        channels: Channels of the input.
        size: (height, width) of the input, pixels.
        filters: Filters of each convolution.
        reduction: By how much the input is averaged down first.
        normalize: Normalises the input.
        hidden: Units of the hidden layer, and so the count.
    """
    stages = [normalize or nn.Identity(), nn.AvgPool2d(reduction) if reduction > 1 else nn.Identity()]
    for index, outputs in enumerate(filters):
        inputs = filters[index - 1] if index else channels
        stages += [conv_bn(inputs, outputs), nn.MaxPool2d(2, ceil_mode=index == len(filters) - 1)]
    convolutions = nn.Sequential(*stages, nn.Flatten())
    flat = flat_size(convolutions, channels, size)
    return nn.Sequential(convolutions, nn.Linear(flat, hidden), nn.ReLU()), hidden


def conv_bn(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    """Return a 3 x 3 convolution that keeps the size but for its stride, batch normalisation and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
