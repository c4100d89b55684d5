"""Small networks whose grids are written in other ways than ``affine_grid`` alone, and their files by PyTorch."""

import warnings
from pathlib import Path

import torch
from kornia.geometry import transform as kornia_transform
from torch import Tensor, nn
from torch.nn import functional

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def homogeneous(out: tuple[int, int], corners: bool) -> Tensor:
    """Return x, y and 1 of each pixel, (height * width, 3)."""
    axes = [torch.linspace(-1, 1, size) if corners else (torch.arange(size) * 2 + 1) / size - 1 for size in out]
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)


class Warp(nn.Module):
    """A network that answers with its image, sampled at a grid that a head of a few numbers makes.

    Attributes:
        numbers: Size of the head for each picture.
        start: What the head answers at rest, (numbers,).
        spread: Standard deviation of the head's weights.
    """

    numbers = 6
    start: tuple[float, ...] = IDENTITY[:6]
    spread = 0.1

    def __init__(self, size: int = 12, out: int = 10, padding: str = "zeros", corners: bool = False) -> None:
        super().__init__()
        self.out, self.padding, self.corners = (out, out + 2), padding, corners
        self.head = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear((size // 4) ** 2, self.numbers))
        generator = torch.Generator().manual_seed(4)
        self.head[2].weight.data = torch.randn(self.head[2].weight.shape, generator=generator) * self.spread
        self.head[2].bias.data = torch.tensor(self.start)
        self.register_buffer("base", homogeneous(self.out, corners))

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the sampling grid (N, H, W, 2)."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Return the sampled image."""
        grid = self.grid(self.head(image), image)
        return functional.grid_sample(image, grid, padding_mode=self.padding, align_corners=self.corners)


class ClampedAffine(Warp):
    """Limits the grid of ``affine_grid`` to the picture."""

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the clamped grid."""
        size = [image.shape[0], 1, *self.out]
        return functional.affine_grid(head.view(-1, 2, 3), size, align_corners=self.corners).clamp(-1, 1)


class TanhAffine(Warp):
    """Limits the grid of ``affine_grid`` smoothly."""

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the limited grid."""
        size = [image.shape[0], 1, *self.out]
        return torch.tanh(functional.affine_grid(head.view(-1, 2, 3), size, align_corners=self.corners))


class LimitedTwice(Warp):
    """Limits theta and, by minimum and maximum, the grid."""

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the limited grid."""
        points = self.base @ torch.tanh(head).view(-1, 2, 3).transpose(1, 2)
        points = torch.minimum(torch.maximum(points, torch.tensor(-0.9)), torch.tensor(0.9))
        return points.view(-1, *self.out, 2)


class Homography(Warp):
    """Divides by the third coordinate."""

    numbers, start, spread = 9, IDENTITY, 0.03
    epsilon = 0.0

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the projective grid."""
        points = self.base @ head.view(-1, 3, 3).transpose(1, 2)
        return (points[..., :2] / (points[..., 2:] + self.epsilon)).view(-1, *self.out, 2)


class HomographyWithEpsilon(Homography):
    """Adds an epsilon to the divisor."""

    epsilon = 1e-8


class HomographyOfEight(Warp):
    """Has eight numbers, and meshgrid's x and y as separate tensors that are divided and stacked."""

    numbers, start, spread = 8, IDENTITY[:8], 0.03

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the projective grid."""
        matrix = torch.cat([head, torch.ones_like(head[:, :1])], dim=1).view(-1, 3, 3, 1, 1)
        x, y = (self.base[:, axis].view(self.out) for axis in (0, 1))
        rows = [matrix[:, row, 0] * x + matrix[:, row, 1] * y + matrix[:, row, 2] for row in range(3)]
        divisor = rows[2] + 1e-6
        return torch.stack([rows[0] / divisor, rows[1] / divisor], dim=-1)


class GuardedHomography(Warp):
    """Divides by the third coordinate only where that is not tiny, and keeps its sign."""

    numbers, start, spread = 9, IDENTITY, 0.03

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the projective grid."""
        points = torch.einsum("nij,pj->npi", head.view(-1, 3, 3), self.base)
        w = points[..., 2:]
        w = torch.where(w.abs() < 1e-6, torch.where(w < 0, -1e-6, 1e-6), w)
        return (points[..., :2] / w).clamp(-2, 2).view(-1, *self.out, 2)


class ThinPlate(Warp):
    """A thin plate by products with repeated buffers, as code for text lines writes it."""

    numbers, start, spread = 20, tuple([-0.8, -0.4, 0, 0.4, 0.8] * 4), 0.05
    clamped = False

    def __init__(self, size: int = 12, out: int = 10, padding: str = "zeros", corners: bool = False) -> None:
        super().__init__(size, out, padding, corners)
        x = torch.linspace(-1, 1, 5)
        points = torch.cat([torch.stack([x, torch.full((5,), y)], dim=1) for y in (-1.0, 1.0)])
        border = torch.cat([points, torch.ones(10, 1)], dim=1)
        system = torch.zeros(13, 13)
        system[:10, :10], system[:10, 10:], system[10:, :10] = self.bending(points, points), border, border.T
        self.register_buffer("inverse", torch.linalg.inv(system))
        pixels = self.base[:, :2]
        self.register_buffer("surface", torch.cat([self.bending(pixels, points), self.base], dim=1))

    @staticmethod
    def bending(one: Tensor, other: Tensor) -> Tensor:
        """Return r^2 log r^2 of all pairs of points."""
        square = (one[:, None] - other[None]).square().sum(dim=2)
        return square * torch.log(square + (square == 0))

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the grid of the thin plate."""
        count = head.size(0)
        moved = torch.cat([head.view(count, 10, 2), torch.zeros(count, 3, 2)], dim=1)
        mapping = torch.bmm(self.inverse.unsqueeze(0).repeat(count, 1, 1), moved)
        points = torch.bmm(self.surface.unsqueeze(0).repeat(count, 1, 1), mapping)
        points = points.clamp(-1, 1) if self.clamped else points
        return points.reshape(count, *self.out, 2)


class ClampedThinPlate(ThinPlate):
    """A thin plate whose grid is limited to the picture."""

    clamped = True


class ConstantTheta(Warp):
    """Has a theta that is a parameter, repeated for all pictures."""

    numbers = 6

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the grid of the parameter."""
        theta = (self.head[2].bias + 0.1).view(1, 2, 3).expand(image.shape[0], -1, -1)
        return functional.affine_grid(theta, [image.shape[0], 1, *self.out], align_corners=self.corners)


class Flow(Warp):
    """Moves each point by a flow in pixels, which convolutions make, as code for optical flow writes it."""

    def __init__(self, size: int = 12, out: int = 10, padding: str = "zeros", corners: bool = False) -> None:
        super().__init__(size, size, padding, corners)
        self.flow = nn.Conv2d(1, 2, 3, padding=1)
        self.size = size

    def moved(self, flow: Tensor) -> Tensor:
        """Return pixel coordinates plus flow, (N, 2, H, W)."""
        axis = torch.arange(self.size, dtype=flow.dtype)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        return torch.stack([x, y])[None].repeat(flow.shape[0], 1, 1, 1) + flow

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the normalised grid."""
        points = self.moved(self.flow(image))
        x = 2 * points[:, 0] / max(self.size - 1, 1) - 1
        y = 2 * points[:, 1] / max(self.size - 1, 1) - 1
        return torch.stack([x, y], dim=3)


class VoxelFlow(Flow):
    """Moves each point by a flow with y first, and turns the channels at the end."""

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the normalised grid."""
        points = self.moved(self.flow(image))
        points = torch.cat([2 * (points[:, axis, None] / (self.size - 1) - 0.5) for axis in (0, 1)], dim=1)
        return points.permute(0, 2, 3, 1)[..., [1, 0]]


class ClampedFlow(Flow):
    """Adds a limited flow to ``affine_grid`` of the identity, and limits the sum."""

    def grid(self, head: Tensor, image: Tensor) -> Tensor:
        """Return the limited grid."""
        identity = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]).repeat(image.shape[0], 1, 1)
        base = functional.affine_grid(identity, list(image.shape), align_corners=self.corners)
        return (base + 0.2 * torch.tanh(self.flow(image)).permute(0, 2, 3, 1)).clamp(-1, 1)


class KorniaWarp(Warp):
    """Calls a function of kornia with a homography of the head, in pixels or normalised."""

    numbers, start, spread = 9, IDENTITY, 0.02
    function = "homography_warp"

    def forward(self, image: Tensor) -> Tensor:
        """Return the warped image."""
        head = self.head(image)
        options = {"align_corners": self.corners, "padding_mode": self.padding}
        matrix = head.view(-1, 3, 3)
        if self.function == "rotate":
            return kornia_transform.rotate(image, 20 * head[:, 0], **options)
        if self.function == "warp_affine":
            return kornia_transform.warp_affine(image, matrix[:, :2], self.out, **options)
        return getattr(kornia_transform, self.function)(image, matrix, self.out, **options)


class KorniaPerspective(KorniaWarp):
    """kornia's ``warp_perspective``."""

    function = "warp_perspective"


class KorniaAffine(KorniaWarp):
    """kornia's ``warp_affine``."""

    function = "warp_affine"


class KorniaRotation(KorniaWarp):
    """kornia's ``rotate``."""

    function = "rotate"


NETWORKS: dict[str, type[Warp]] = {
    kind.__name__: kind
    for kind in (
        ClampedAffine,
        TanhAffine,
        LimitedTwice,
        Homography,
        HomographyWithEpsilon,
        HomographyOfEight,
        GuardedHomography,
        ThinPlate,
        ClampedThinPlate,
        ConstantTheta,
        Flow,
        VoxelFlow,
        ClampedFlow,
        KorniaWarp,
        KorniaPerspective,
        KorniaAffine,
        KorniaRotation,
    )
}


def write(network: nn.Module, image: Tensor, path: Path, dynamo: bool, opset: int, open_batch: bool = True) -> Path:
    """Export a network with PyTorch alone, without any code of this project."""
    names = {"input_names": ["image"], "output_names": ["sampled"], "verbose": False}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            axes = ({0: torch.export.Dim("N")},) if open_batch else None
            torch.onnx.export(
                network,
                (image,),
                str(path),
                opset_version=opset,
                dynamic_shapes=axes,
                dynamo=True,
                external_data=False,
                **names,
            )
        else:
            open_axes = {"image": {0: "N"}, "sampled": {0: "N"}} if open_batch else None
            torch.onnx.export(
                network, (image,), str(path), opset_version=opset, dynamic_axes=open_axes, dynamo=False, **names
            )
    return path
