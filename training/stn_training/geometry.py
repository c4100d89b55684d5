"""Where images are placed in a picture, and the theta that puts them there."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from stn_models import GridGenerator, make_grid

CORNERS = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
"""Of an image, normalised, clockwise from the top left."""


class Distorted(NamedTuple):
    """Distorted images.

    Attributes:
        images: (N, C, canvas, canvas) in [0, 1].
        placements: Where the undistorted image lies on the canvas, (N, 2, 3): the theta of an affine transformer that
            would undo the distortion; NaN where no affine map does.
    """

    images: Tensor
    placements: Tensor


@lru_cache
def square_grid(name: str, size: int, device: str) -> GridGenerator:
    """Return the grid generator called ``name`` for ``size`` x ``size`` pixels, on a device; each is made once."""
    return make_grid(name, (size, size)).to(device)


def unknown_placements(count: int) -> Tensor:
    """Return the placements of images that no affine map undoes, (count, 2, 3) NaN."""
    return torch.full((count, 2, 3), torch.nan)


def similarity_theta(angle: Tensor, share: Tensor, centre: Tensor) -> Tensor:
    """Return the theta (N, 4) that shows an image turned by ``angle`` on ``share`` of the output, about ``centre``.

    Args:
        angle: Radians, (N,); positive turns the image counter-clockwise on the picture.
        share: Side of the image as a share of the output's side, (N,).
        centre: Where the image's centre lies in the output, normalised (x, y), (N, 2).
    """
    scale = 1 / share
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    x = -(cosine * centre[:, 0] - sine * centre[:, 1])
    y = -(sine * centre[:, 0] + cosine * centre[:, 1])
    return torch.stack([angle, scale, x, y], dim=1)


def similarity_matrix(theta: Tensor) -> Tensor:
    """Return the affine matrices (N, 2, 3) of ``SimilarityGrid``'s theta (N, 4) on a square image."""
    cosine, sine = theta[:, 1] * torch.cos(theta[:, 0]), theta[:, 1] * torch.sin(theta[:, 0])
    first = torch.stack([cosine, -sine, theta[:, 2]], dim=1)
    second = torch.stack([sine, cosine, theta[:, 3]], dim=1)
    return torch.stack([first, second], dim=1)


def inverse_affine(matrices: Tensor) -> Tensor:
    """Return the affine maps (N, 2, 3) that undo ``matrices`` (N, 2, 3)."""
    (a, b), (c, d) = matrices[:, 0, :2].T, matrices[:, 1, :2].T
    linear = torch.stack([d, -b, -c, a], dim=1).view(-1, 2, 2) / (a * d - b * c)[:, None, None]
    return torch.cat([linear, -linear @ matrices[:, :, 2:]], dim=2)


def placed_corners(placements: Tensor) -> Tensor:
    """Return the corners (N, 4, 2), clockwise from the top left, of images that lie at ``placements`` (N, 2, 3)."""
    corners: Tensor = CORNERS.to(placements) @ placements[:, :, :2].mT + placements[:, None, :, 2]
    return corners


def homography_theta(corners: Tensor) -> Tensor:
    """Return the theta (N, 8) that shows an image with its corners at ``corners`` (N, 4, 2) of the output."""
    x, y = corners[..., 0], corners[..., 1]
    own = CORNERS.to(corners)
    u, v = own[:, 0].expand_as(x), own[:, 1].expand_as(y)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    for_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1)
    for_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)
    system = torch.cat([for_u, for_v], dim=1).double()
    wanted = torch.cat([u, v], dim=1).double()[..., None]
    theta: Tensor = torch.linalg.solve_ex(system, wanted).result  # without a check that waits for the GPU
    return theta.squeeze(-1).float()
