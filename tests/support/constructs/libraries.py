"""Warps of torchvision and kornia inside a module."""

import torch
from torch import Tensor, nn
from torchvision.transforms import functional as vision

from tests.support.constructs.warps import locator

CORNERS = [[0, 0], [19, 0], [19, 15], [0, 15]]
MOVED = [[2, 1], [17, 3], [18, 14], [1, 13]]


class VisionWarp(nn.Module):
    """One of torchvision's warps by fixed numbers, and a convolution."""

    def __init__(self, kind: str, mode: vision.InterpolationMode = vision.InterpolationMode.BILINEAR) -> None:
        super().__init__()
        self.kind, self.mode, self.head = kind, mode, nn.Conv2d(3, 2, 3)

    def forward(self, image: Tensor) -> Tensor:
        if self.kind == "affine":
            turned = vision.affine(image, 20.0, [2, 1], 1.2, [5.0, 0.0], interpolation=self.mode)
        elif self.kind == "rotate":
            turned = vision.rotate(image, 30.0, interpolation=self.mode, expand=False, fill=[0.3])
        else:
            turned = vision.perspective(image, CORNERS, MOVED, interpolation=self.mode)
        return self.head(turned)


class KorniaWarp(nn.Module):
    """One of kornia's warps, by numbers that a small network finds."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.locate = locator(1, {"rotate": 1, "warp_affine": 6, "thin_plate": 10}.get(kind, 8))

    def forward(self, image: Tensor) -> Tensor:
        from kornia.geometry import transform

        found, size = self.locate(image), tuple(image.shape[-2:])
        if self.kind == "rotate":
            return transform.rotate(image, 40 * found[:, 0])
        if self.kind == "warp_affine":
            return transform.warp_affine(image, found.view(-1, 2, 3) + torch.eye(2, 3), size)
        if self.kind == "thin_plate":
            fixed = torch.tensor([[-0.8, -0.8], [0.8, -0.8], [0.0, 0.0], [-0.8, 0.8], [0.8, 0.8]])
            fixed = fixed.expand(image.shape[0], 5, 2)
            moved = fixed + 0.3 * found.view(-1, 5, 2)
            kernel, affine = transform.get_tps_transform(moved, fixed)
            return transform.warp_image_tps(image, fixed, kernel, affine, align_corners=False)
        numbers = torch.cat((0.1 * found, torch.zeros_like(found[:, :1])), 1).view(-1, 3, 3)
        if self.kind == "homography_warp":
            return transform.homography_warp(image, numbers + torch.eye(3), size)
        corners = torch.tensor([[0.0, 0.0], [19.0, 0.0], [19.0, 15.0], [0.0, 15.0]]).expand(image.shape[0], 4, 2)
        matrix = transform.get_perspective_transform(corners, corners + 3 * found.view(-1, 4, 2))
        return transform.warp_perspective(image, matrix, size)
