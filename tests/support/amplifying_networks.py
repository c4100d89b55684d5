"""Networks whose float32 rounding grows: two correct runs of them differ by more than 1e-5 of the largest output."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def _localisation(channels: int, sizes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 12, 5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(108, 32),
        nn.ReLU(),
        nn.Linear(32, sizes),
    )


class Series(nn.Module):
    """Affine transformers in series, each of which looks closely at what the one before it made."""

    def __init__(self, count: int = 3, align_corners: bool = False, padding: str = "zeros") -> None:
        super().__init__()
        self.nets = nn.ModuleList(_localisation(1, 6) for _ in range(count))
        self.head = nn.Sequential(
            nn.Conv2d(1, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 10)
        )
        self.align_corners, self.padding = align_corners, padding

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, 10) and the last picture for ``image`` (N, 1, H, W)."""
        identity = torch.tensor([0.8, 0.1, 0.05, -0.1, 0.9, -0.1])
        for net in self.nets:
            theta = (identity + 0.2 * torch.sin(1000 * net(image))).view(-1, 2, 3)
            grid = functional.affine_grid(theta, list(image.shape), align_corners=self.align_corners)
            image = functional.grid_sample(image, grid, "bilinear", self.padding, self.align_corners)
        return self.head(image), image


class Normalised(nn.Module):
    """InstanceNorm behind a sampler whose pictures hardly vary, as of a dark room."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = _localisation(3, 6)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 4, 3))

    def forward(self, image: Tensor) -> Tensor:
        """Return maps (N, 4, H - 4, W - 4) for ``image`` (N, 3, H, W)."""
        theta = (torch.tensor([0.6, 0.1, 0.05, -0.1, 0.5, -0.1]) + 0.1 * torch.tanh(self.locate(image))).view(-1, 2, 3)
        grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
        sampled = functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
        return self.head(self.stem(sampled * 0.002 + 5))


class ThinPlate(nn.Module):
    """A thin plate for lines of text, by products with constant matrices, its grid clamped; two outputs."""

    def __init__(self, points: int = 10, size: tuple[int, int] = (32, 100)) -> None:
        super().__init__()
        self.locate = _localisation(1, 2 * points)
        steps = torch.linspace(-1, 1, points // 2)
        control = torch.cat([torch.stack([steps, torch.full_like(steps, side)], 1) for side in (-1.0, 1.0)])
        self.register_buffer("control", control)
        system = torch.zeros(points + 3, points + 3)
        system[:points, 0] = 1
        system[:points, 1:3] = control
        system[:points, 3:] = _radial(control, control)
        system[points, 3:] = 1
        system[points + 1 :, 3:] = control.T
        self.register_buffer("inverse", torch.linalg.inv(system.double()).float())
        y, x = torch.meshgrid(torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij")
        places = torch.stack([x, y], -1).reshape(-1, 2)
        self.register_buffer("basis", torch.cat([torch.ones(len(places), 1), places, _radial(places, control)], 1))
        self.size = size

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the straightened picture and the control points for ``image`` (N, 1, H, W)."""
        count = image.shape[0]
        offsets = 0.3 * torch.sin(300 * self.locate(image)).view(count, -1, 2)
        points = self.control + offsets
        padded = torch.cat([points, torch.zeros(count, 3, 2)], 1)
        mapping = torch.bmm(self.inverse.repeat(count, 1, 1), padded)
        grid = torch.bmm(self.basis.repeat(count, 1, 1), mapping).view(count, *self.size, 2)
        grid = grid.clamp(-1, 1)
        return functional.grid_sample(image, grid, padding_mode="border", align_corners=True), points


class Bare(nn.Module):
    """A sampler and nothing else."""

    def forward(self, image: Tensor, theta: Tensor) -> Tensor:
        """Return the picture (N, C, H, W) warped by affine matrices (N, 2, 3)."""
        grid = functional.affine_grid(theta, list(image.shape), align_corners=False)
        return functional.grid_sample(image, grid, align_corners=False)


class NormalisedSeries(Series):
    """Two transformers in series, the second of which sees a normalised, nearly constant picture."""

    def __init__(self) -> None:
        super().__init__(count=2)
        self.normalise = nn.InstanceNorm2d(1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, 10) and the last picture for ``image`` (N, 1, H, W)."""
        return super().forward(self.normalise(image * 0.01 + 4))


def _radial(places: Tensor, control: Tensor) -> Tensor:
    squared = (places[:, None] - control[None]).square().sum(-1)
    return torch.where(squared > 0, squared * squared.clamp_min(1e-12).log(), torch.zeros(()))


def _noise(*shapes: tuple[int, ...]) -> Callable[[], list[Tensor]]:
    return lambda: [torch.rand(shape, generator=torch.Generator().manual_seed(1)) for shape in shapes]


def _bare() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    theta = torch.tensor([[0.8, 0.1, 0.05], [-0.1, 0.9, -0.1]]) + 0.1 * torch.randn(2, 2, 3, generator=generator)
    return [torch.randn(2, 3, 256, 256, generator=generator), theta]


AMPLIFYING: dict[str, tuple[Callable[[], nn.Module], Callable[[], list[Tensor]]]] = {
    "three in series": (Series, _noise((2, 1, 48, 48))),
    "three in series, align_corners and border": (
        lambda: Series(align_corners=True, padding="border"),
        _noise((2, 1, 48, 48)),
    ),
    "instance norm": (Normalised, _noise((2, 3, 40, 40))),
    "thin plate, clamped": (ThinPlate, _noise((2, 1, 32, 100))),
    "bare at 256": (Bare, _bare),
    "instance norm and series": (NormalisedSeries, _noise((2, 1, 48, 48))),
}
"""By name: makes the network, and makes an example of its inputs."""


def amplifying(name: str) -> tuple[nn.Module, list[Tensor]]:
    """Return a network in evaluation mode and one batch of its inputs."""
    torch.manual_seed(0)
    make, example = AMPLIFYING[name]
    return make().eval(), example()
