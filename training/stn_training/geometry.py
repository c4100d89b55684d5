"""Theta for a placement that is known: where an image should appear in the output."""

import torch
from torch import Tensor

CORNERS = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
"""Of an image, normalised, clockwise from the top left."""


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
    linear = torch.linalg.inv(matrices[:, :, :2])
    return torch.cat([linear, -linear @ matrices[:, :, 2:]], dim=2)


def homography_theta(corners: Tensor) -> Tensor:
    """Return the theta (N, 8) that shows an image with its corners at ``corners`` (N, 4, 2) of the output."""
    x, y = corners[..., 0], corners[..., 1]
    u, v = CORNERS[:, 0].expand_as(x), CORNERS[:, 1].expand_as(y)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    for_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1)
    for_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)
    system = torch.cat([for_u, for_v], dim=1).double()
    theta: Tensor = torch.linalg.solve(system, torch.cat([u, v], dim=1).double()[..., None])
    return theta.squeeze(-1).float()
