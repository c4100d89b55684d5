"""Grid generators: from transformation parameters theta to the points where the input is sampled.

Convention, the same for every generator and pinned by tests/models/test_grid.py:
    theta          maps OUTPUT coordinates to INPUT coordinates (Jaderberg et al. 2015, eq. 1).
    coordinates    (x, y), normalised to [-1, 1], x to the right, y down.
    align_corners  False (default): -1 and +1 are the outer edges of the border pixels;
                   True: they are the centres of the border pixels.

A generator multiplies coefficients with a basis that is built once for the output size, so that
the whole grid is one matrix product, in PyTorch and in the exported graph alike.
"""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

_NEAREST_HORIZON = 1e-3
_MOST_CONTROL_POINTS = 16  # a side


class GridGenerator(nn.Module):
    """Turns theta into a sampling grid of a fixed output size.

    Subclasses say how many parameters they take, which theta is the identity, and their basis. Where straight edges do
    not stay straight they also say how many points of each side an outline needs.

    Args:
        output_size: (height, width) of the sampled output, pixels.
        align_corners: Whether -1 and +1 are the centres (True) or the edges (False) of border pixels.
    """

    name: str
    theta_size: int
    outline_points_per_side: int = 1
    basis: Tensor
    outline_basis: Tensor

    def __init__(self, output_size: tuple[int, int], align_corners: bool = False) -> None:
        super().__init__()
        height, width = output_size
        if height < 1 or width < 1:
            raise ValueError(f"output_size must be at least (1, 1), got {tuple(output_size)}")
        self.output_size = (height, width)
        self.align_corners = align_corners
        self._setup()
        # Constants of the output size, not state: a checkpoint does not carry them.
        points = output_points(self.output_size, align_corners)
        self.register_buffer("basis", self._basis(points).float(), persistent=False)
        border = outline_points(self.outline_points_per_side)
        self.register_buffer("outline_basis", self._basis(border).float(), persistent=False)

    def _setup(self) -> None:
        """Prepare what ``_basis`` needs; most generators need nothing."""

    def identity(self) -> Tensor:
        """Return the theta, (theta_size,), that samples the input as it is."""
        raise NotImplementedError

    def translations(self) -> Tensor:
        """Return what moves the identity's grid by 1 in x, and in y, when added to its theta: (2, theta_size)."""
        raise NotImplementedError

    def _basis(self, points: Tensor) -> Tensor:
        """Return the basis for output points (M, 2) in float64: (coefficients, 2 M), x and y alternating."""
        raise NotImplementedError

    def _evaluate(self, theta: Tensor, basis: Tensor) -> Tensor:
        """Return input points for theta (N, theta_size): (N, 2 M), x and y alternating."""
        return theta @ basis

    def forward(self, theta: Tensor) -> Tensor:
        """Return where each output pixel reads from.

        Args:
            theta: Transformation parameters, (N, theta_size), float.

        Returns:
            Sampling grid, (N, height, width, 2); the last axis is (x, y), normalised.

        Raises:
            ValueError: theta has another shape.
        """
        self._check(theta)
        return self._evaluate(theta, self.basis.to(theta.dtype)).reshape(-1, *self.output_size, 2)

    def outline(self, theta: Tensor) -> Tensor:
        """Return the border of the sampling grid, clockwise from its top left corner.

        Args:
            theta: Transformation parameters, (N, theta_size), float.

        Returns:
            Points in normalised input coordinates, (N, 4 m, 2) with m = ``outline_points_per_side``.
        """
        self._check(theta)
        return self._evaluate(theta, self.outline_basis.to(theta.dtype)).reshape(
            -1, 4 * self.outline_points_per_side, 2
        )

    def _check(self, theta: Tensor) -> None:
        if theta.ndim != 2 or theta.shape[1] != self.theta_size:
            raise ValueError(f"{type(self).__name__}: theta must be (N, {self.theta_size}), got {tuple(theta.shape)}")

    def extra_repr(self) -> str:
        """Return what ``print(module)`` shows between the brackets."""
        return f"output_size={self.output_size}, align_corners={self.align_corners}"


class AttentionGrid(GridGenerator):
    """Isotropic scale and translation: theta = (s, tx, ty) (Jaderberg et al. 2015, eq. 2)."""

    name = "attention"
    theta_size = 3

    def identity(self) -> Tensor:
        """Return (1, 0, 0)."""
        return torch.tensor([1.0, 0.0, 0.0])

    def translations(self) -> Tensor:
        """Return unit steps of the two translations."""
        return torch.eye(3)[[1, 2]]

    def _basis(self, points: Tensor) -> Tensor:
        return torch.stack([points.flatten(), *_translations(points)])


class SimilarityGrid(GridGenerator):
    """Rotation, isotropic scale and translation: theta = (angle, s, tx, ty), the angle in radians.

    A positive angle turns the sampling grid clockwise as seen on the picture (y points down). The rotation is
    rigid in pixels when the input has the output's aspect ratio; for square sizes it is the textbook matrix.
    """

    name = "similarity"
    theta_size = 4

    def identity(self) -> Tensor:
        """Return (0, 1, 0, 0)."""
        return torch.tensor([0.0, 1.0, 0.0, 0.0])

    def translations(self) -> Tensor:
        """Return unit steps of the two translations."""
        return torch.eye(4)[[2, 3]]

    def _basis(self, points: Tensor) -> Tensor:
        height, width = self.output_size
        if self.align_corners and min(height, width) > 1:  # +-1 are then the centres of the border pixels
            height, width = height - 1, width - 1
        aspect = width / height
        turned = torch.stack([-points[:, 1] / aspect, points[:, 0] * aspect], dim=1)
        return torch.stack([points.flatten(), turned.flatten(), *_translations(points)])

    def _evaluate(self, theta: Tensor, basis: Tensor) -> Tensor:
        angle, scale, translation = theta[:, 0:1], theta[:, 1:2], theta[:, 2:4]
        return torch.cat([scale * torch.cos(angle), scale * torch.sin(angle), translation], dim=1) @ basis


class AffineGrid(GridGenerator):
    """Full affine map: theta = (t11, t12, t13, t21, t22, t23), the rows of the matrix in eq. 1 of the paper.

    With theta reshaped to (N, 2, 3) it equals ``torch.nn.functional.affine_grid``.
    """

    name = "affine"
    theta_size = 6

    def identity(self) -> Tensor:
        """Return (1, 0, 0, 0, 1, 0)."""
        return torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])

    def translations(self) -> Tensor:
        """Return unit steps of the two translations."""
        return torch.eye(6)[[2, 5]]

    def _basis(self, points: Tensor) -> Tensor:
        rows = _homogeneous(points)
        return torch.cat([_interleave(rows, torch.zeros_like(rows)), _interleave(torch.zeros_like(rows), rows)])


class ProjectiveGrid(GridGenerator):
    """Homography with last entry 1: theta = (h11, h12, h13, h21, h22, h23, h31, h32).

    Output points at or behind the horizon, where the denominator h31 x + h32 y + 1 is 1e-3 or less, are divided by
    1e-3 instead: they land far away, and never become infinite or mirrored.
    """

    name = "projective"
    theta_size = 8

    def identity(self) -> Tensor:
        """Return (1, 0, 0, 0, 1, 0, 0, 0)."""
        return torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])

    def translations(self) -> Tensor:
        """Return unit steps of the two translations."""
        return torch.eye(8)[[2, 5]]

    def _basis(self, points: Tensor) -> Tensor:
        rows = _homogeneous(points)
        blank = torch.zeros_like(rows)
        numerators = torch.cat([_interleave(rows, blank), _interleave(blank, rows)])  # (6, 2 M)
        denominators = _interleave(rows[:2], rows[:2])  # (2, 2 M): the same for x and for y
        above = torch.cat([numerators, torch.zeros_like(numerators)], dim=1)
        below = torch.cat([torch.zeros_like(denominators), denominators], dim=1)
        return torch.cat([above, below])  # (8, 4 M)

    def _evaluate(self, theta: Tensor, basis: Tensor) -> Tensor:
        numerators, denominators = (theta @ basis).chunk(2, dim=1)
        return numerators / (denominators + 1).clamp(min=_NEAREST_HORIZON)


class ThinPlateSplineGrid(GridGenerator):
    """Thin-plate spline: theta is where each of k x k control points reads from, (x1, y1, x2, y2, ...).

    The control points form a regular grid over [-1, 1] in the output, row by row. Between them the map bends as
    little as possible: Bookstein 1989, kernel r^2 log r^2. It is linear in theta, so the solve happens only here.

    Args:
        output_size: (height, width) of the sampled output, pixels.
        align_corners: Convention of the sampler, the same for every generator.
        points_per_side: k, at least 2.
    """

    name = "tps"
    outline_points_per_side = 8  # enough to see it bend

    def __init__(self, output_size: tuple[int, int], align_corners: bool = False, points_per_side: int = 4) -> None:
        if points_per_side < 2:
            raise ValueError(f"points_per_side must be at least 2, got {points_per_side}")
        self.points_per_side = points_per_side
        self.theta_size = 2 * points_per_side**2
        super().__init__(output_size, align_corners)

    def _setup(self) -> None:
        side = torch.linspace(-1, 1, self.points_per_side, dtype=torch.float64)
        y, x = torch.meshgrid(side, side, indexing="ij")
        self._controls = torch.stack([x, y], dim=-1).reshape(-1, 2)  # (K, 2)

    def identity(self) -> Tensor:
        """Return the control points themselves, (2 k^2,)."""
        return self._controls.flatten().float()

    def translations(self) -> Tensor:
        """Return unit steps of all control points together."""
        return torch.eye(2).repeat(1, len(self._controls))

    def _basis(self, points: Tensor) -> Tensor:
        count = len(self._controls)
        affine = _homogeneous(self._controls).T  # (K, 3)
        system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
        system[:count, :count] = _bending(self._controls, self._controls)
        system[:count, count:] = affine
        system[count:, :count] = affine.T
        at_points = torch.cat([_bending(points, self._controls), _homogeneous(points).T], dim=1)  # (M, K + 3)
        weights = torch.linalg.solve(system, at_points.T)[:count]  # (K, M); the system is symmetric
        blank = torch.zeros_like(weights)
        # theta alternates x and y: row 2 j moves only x, row 2 j + 1 only y
        return torch.stack([_interleave(weights, blank), _interleave(blank, weights)], dim=1).flatten(0, 1)

    def extra_repr(self) -> str:
        """Return what ``print(module)`` shows between the brackets."""
        return f"{super().extra_repr()}, points_per_side={self.points_per_side}"


GRID_GENERATORS: dict[str, Callable[[tuple[int, int], bool], GridGenerator]] = {
    kind.name: kind for kind in (AttentionGrid, SimilarityGrid, AffineGrid, ProjectiveGrid, ThinPlateSplineGrid)
}
"""The generators by the name that configs and manifests use."""


def make_grid(name: str, output_size: tuple[int, int], align_corners: bool = False) -> GridGenerator:
    """Return the generator called ``name``; ``tps6`` is a thin plate of 6 x 6 control points.

    Raises:
        ValueError: There is no such generator.
    """
    control_points = re.fullmatch(rf"{ThinPlateSplineGrid.name}(\d+)", name)
    if control_points and 2 <= int(control_points[1]) <= _MOST_CONTROL_POINTS:
        return ThinPlateSplineGrid(output_size, align_corners, int(control_points[1]))
    if name not in GRID_GENERATORS:
        raise ValueError(
            f"no grid generator '{name}'; choose from {', '.join(GRID_GENERATORS)}, or tps2 to "
            f"tps{_MOST_CONTROL_POINTS} for as many control points a side"
        )
    return GRID_GENERATORS[name](output_size, align_corners)


def output_points(output_size: tuple[int, int], align_corners: bool) -> Tensor:
    """Return the normalised coordinates of the output's pixels, row by row: (height * width, 2), (x, y), float64."""
    height, width = output_size
    y, x = torch.meshgrid(_axis(height, align_corners), _axis(width, align_corners), indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def outline_points(per_side: int) -> Tensor:
    """Return points along the border of [-1, 1]^2, clockwise from the top left: (4 per_side, 2), (x, y), float64."""
    forth = torch.arange(per_side, dtype=torch.float64) * 2 / per_side - 1
    edge = torch.ones_like(forth)
    sides = [(forth, -edge), (edge, forth), (-forth, edge), (-edge, -forth)]
    return torch.cat([torch.stack(side, dim=1) for side in sides])


def _axis(length: int, align_corners: bool) -> Tensor:
    index = torch.arange(length, dtype=torch.float64)
    if not align_corners:
        return (2 * index + 1) / length - 1
    return 2 * index / (length - 1) - 1 if length > 1 else torch.zeros(1, dtype=torch.float64)


def _translations(points: Tensor) -> list[Tensor]:
    ones, zeros = torch.ones(len(points), dtype=points.dtype), torch.zeros(len(points), dtype=points.dtype)
    return [_interleave(ones, zeros), _interleave(zeros, ones)]


def _homogeneous(points: Tensor) -> Tensor:
    return torch.stack([points[:, 0], points[:, 1], torch.ones(len(points), dtype=points.dtype)])  # (3, M)


def _interleave(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([x, y], dim=-1).flatten(-2)


def _bending(a: Tensor, b: Tensor) -> Tensor:
    squared = torch.cdist(a, b).square()
    return torch.where(squared > 0, squared * torch.log(squared.clamp(min=math.ulp(0.0))), 0.0)
