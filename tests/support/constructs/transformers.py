"""Spatial transformers as people write them: how theta is made, how many there are, what stands around them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.constructs.warps import locator


def sampled(image: Tensor, theta: Tensor) -> Tensor:
    """Return an image sampled by thetas (N, 2, 3)."""
    grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, align_corners=False)


class Attention(nn.Module):
    """Scale and translation written into zeros by index (attention of the paper, AIR)."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = locator(1, 3)

    def forward(self, image: Tensor) -> Tensor:
        found = self.locate(image)
        theta = torch.zeros(image.size(0), 2, 3, device=image.device)
        theta[:, 0, 0] = theta[:, 1, 1] = torch.sigmoid(found[:, 0])
        theta[:, :, 2] = found[:, 1:]
        return sampled(image, theta)


class Rotation(nn.Module):
    """An angle of each picture; theta is stacked of its cosine and sine."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = locator(1, 1)

    def forward(self, image: Tensor) -> Tensor:
        angle = 3 * self.locate(image)[:, 0]
        zero = torch.zeros_like(angle)
        theta = torch.stack(
            (
                torch.stack((torch.cos(angle), -torch.sin(angle), zero), -1),
                torch.stack((torch.sin(angle), torch.cos(angle), zero), -1),
            ),
            dim=1,
        )
        return sampled(image, theta)


class Parallel(nn.Module):
    """Four transformers from one head: the picture expanded four times, or in a loop."""

    def __init__(self, loop: bool) -> None:
        super().__init__()
        self.loop, self.locate = loop, locator(3, 24)

    def forward(self, image: Tensor) -> Tensor:
        thetas = self.locate(image).view(-1, 4, 2, 3) + torch.eye(2, 3)
        if self.loop:
            return torch.stack([sampled(image, thetas[:, index]) for index in range(4)], 1)
        batch, channels, height, width = image.shape
        many = image.unsqueeze(1).expand(-1, 4, -1, -1, -1).reshape(-1, channels, height, width)
        return sampled(many, thetas.reshape(-1, 2, 3)).view(batch, 4, channels, height, width)


class ConstantTheta(nn.Module):
    """Turns every picture by the same angle."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("theta", torch.tensor([[0.9, -0.4, 0.1], [0.4, 0.9, -0.2]]))

    def forward(self, image: Tensor) -> Tensor:
        return sampled(image, self.theta.unsqueeze(0).repeat(image.size(0), 1, 1))


class Classifier(nn.Module):
    """A transformer and a classifier; ``answer`` makes the output of the scores and the straightened picture."""

    def __init__(self, answer: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.locate, self.answer = locator(1, 6), answer
        self.head = nn.Sequential(nn.Conv2d(1, 8, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))

    def forward(self, image: Tensor) -> object:
        straight = sampled(image, self.locate(image).view(-1, 2, 3) + torch.eye(2, 3))
        return self.answer(self.head(straight), straight)


class Normalized(nn.Module):
    """A transformer between two instance normalisations."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.InstanceNorm2d(3, affine=True), nn.InstanceNorm2d(3)
        self.locate = locator(3, 6)

    def forward(self, image: Tensor) -> Tensor:
        image = self.before(image)
        return self.after(sampled(image, self.locate(image).view(-1, 2, 3) + torch.eye(2, 3)))


class SamplerAlone(nn.Module):
    """Picture and theta, both inputs."""

    def forward(self, image: Tensor, theta: Tensor) -> Tensor:
        return sampled(image, theta)


class LimitedTheta(nn.Module):
    """Theta limited by tanh, and a grid clamped to the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = locator(1, 6)

    def forward(self, image: Tensor) -> Tensor:
        theta = torch.tanh(4 * self.locate(image)).view(-1, 2, 3)
        grid = functional.affine_grid(theta, list(image.shape), align_corners=False).clamp(-1, 1)
        return functional.grid_sample(image, grid, align_corners=False)


class ThereAndBack(nn.Module):
    """Warps by theta, and back by its inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = locator(1, 6)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        theta = 0.5 * self.locate(image).view(-1, 2, 3) + torch.eye(2, 3)
        full = torch.cat((theta, torch.tensor([0.0, 0.0, 1.0]).expand(image.shape[0], 1, 3)), 1)
        warped = sampled(image, theta)
        return warped, sampled(warped, torch.linalg.inv(full)[:, :2])


class SpectralNormalized(nn.Module):
    """A transformer whose localisation network has spectral and weight normalisation."""

    def __init__(self, convolution: Callable[[nn.Module], nn.Module], linear: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.features = convolution(nn.Conv2d(1, 4, 5, stride=3))
        self.regression = linear(nn.Linear(4, 6))

    def forward(self, image: Tensor) -> Tensor:
        theta = self.regression(functional.relu(self.features(image)).mean((2, 3))).view(-1, 2, 3)
        return sampled(image, theta)


class Volumes(nn.Module):
    """A transformer of volumes (5-D)."""

    def forward(self, volume: Tensor, theta: Tensor) -> Tensor:
        grid = functional.affine_grid(theta, list(volume.shape), align_corners=False)
        return functional.grid_sample(volume, grid, align_corners=False)


class PointCloud(nn.Module):
    """A transformer of points (N, 3, P) without a sampler (PointNet's T-Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.regression = nn.Conv1d(3, 16, 1), nn.Linear(16, 9)
        self.head = nn.Conv1d(3, 8, 1)

    def forward(self, points: Tensor) -> Tensor:
        pooled = torch.max(functional.relu(self.features(points)), 2)[0]
        turn = self.regression(pooled).view(-1, 3, 3) + torch.eye(3)
        turned = torch.bmm(points.transpose(2, 1), turn).transpose(2, 1)
        return self.head(turned).amax(2)
