"""Localisation nets: from an image to the parameters theta (Jaderberg et al. 2015, section 3.1)."""

import torch
from torch import Tensor, nn

from .grid import GridGenerator, output_points


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


class AttentionPooling(nn.Module):
    """Where in a feature map to look, and what is there: expectations under a softmax over its cells.

    Localising by the expectation of a heat map instead of by fully connected layers keeps the answer equivariant to
    translation (Nibali et al. 2018, "Numerical Coordinate Regression with Convolutional Neural Networks"). In float32
    also under autocast.

    Args:
        channels: Channels of the feature map.
        size: (height, width) of the feature map.
        hidden: Units of a layer on place and features.
    """

    positions: Tensor

    def __init__(self, channels: int, size: tuple[int, int], hidden: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 1, 1)
        self.hidden = nn.Sequential(nn.Linear(2 + channels, hidden), nn.ReLU())
        self.register_buffer("positions", output_points(size, False).float(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the expected (x, y), normalised, and the hidden units, (N, 2 + hidden), for features (N, C, H, W)."""
        scores = self.score(features)
        if is_autocast(features):
            with torch.autocast(features.device.type, enabled=False):
                return self._expected(scores.float(), features.float())
        return self._expected(scores, features)

    def _expected(self, scores: Tensor, features: Tensor) -> Tensor:
        weights = scores.flatten(1).softmax(dim=1)
        place = weights @ self.positions
        pooled = torch.matmul(features.flatten(2), weights[:, :, None]).flatten(1)
        return torch.cat([place, self.hidden(torch.cat([place, pooled], dim=1))], dim=1)


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
