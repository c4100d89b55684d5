"""Warps of pictures as people write them: thin plates, homographies, flows, motion fields, depth, boxes."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def locator(channels: int, outputs: int) -> nn.Sequential:
    """Return a small localisation network with random weights, whose answers lie within about 0.3."""
    last = nn.Linear(4 * 16, outputs)
    nn.init.normal_(last.weight, std=0.02)
    nn.init.normal_(last.bias, std=0.1)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Tanh(), last
    )


def pixel_grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the pixel coordinates (x, y) of an image, each (height, width)."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return x, y


class EveryMode(nn.Module):
    """Theta by ``view``, and one sampler for each padding and mode; outputs are named after them."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.locate, self.align_corners = locator(1, 6), align_corners

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        theta = self.locate(image).view(-1, 2, 3) + torch.eye(2, 3)
        grid = functional.affine_grid(theta, list(image.size()), align_corners=self.align_corners)
        return {
            f"{mode}_{padding}": functional.grid_sample(image, grid, mode, padding, self.align_corners)
            for mode in ("bilinear", "nearest", "bicubic")
            for padding in ("zeros", "border", "reflection")
        }


class PlateReader(nn.Module):
    """A recogniser of licence plates in the manner of LPRNet, with its global context, behind a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = locator(3, 6)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool3d((1, 3, 3), 1))
        self.narrow = nn.MaxPool3d((1, 3, 3), stride=(2, 1, 2))
        self.block = nn.Sequential(nn.Conv2d(8, 24, (1, 13)), nn.ReLU())
        self.container = nn.Conv2d(32, 37, 1)

    def forward(self, plate: Tensor) -> Tensor:
        theta = torch.eye(2, 3) + self.locate(plate).view(-1, 2, 3)
        plate = functional.grid_sample(plate, functional.affine_grid(theta, list(plate.size())))
        early = self.narrow(self.stem(plate))
        late = self.block(early)
        context = []
        for maps in (early[..., -late.shape[-1] :], late):
            maps = functional.avg_pool2d(maps, (3, 1), stride=(3, 1))
            context.append(maps / maps.pow(2).mean())
        return self.container(torch.cat(context, 1)).mean(dim=2)


class ThinPlateText(nn.Module):
    """Rectifies a line of text as ASTER's networks do: constant buffers repeated for the batch, and ``bmm``."""

    def __init__(self, points: int = 10, out: tuple[int, int] = (8, 25)) -> None:
        super().__init__()
        self.out, self.locate = out, locator(1, 2 * points)
        half = points // 2
        x = torch.linspace(-0.9, 0.9, half)
        control = torch.stack((torch.cat((x, x)), torch.tensor([-0.9, 0.9]).repeat_interleave(half)), 1)
        self.register_buffer("control", control)
        system = torch.zeros(points + 3, points + 3)
        system[:points, :points] = self.kernel(control, control)
        system[:points, points] = system[points, :points] = 1
        system[:points, points + 1 :], system[points + 1 :, :points] = control, control.T
        self.register_buffer("inverse", torch.linalg.inv(system.double()).float())
        y, x = torch.meshgrid(torch.linspace(-1, 1, out[0]), torch.linspace(-1, 1, out[1]), indexing="ij")
        targets = torch.stack((x, y), -1).reshape(-1, 2)
        lifted = torch.cat((self.kernel(targets, control), torch.ones(len(targets), 1), targets), 1)
        self.register_buffer("lifted", lifted)

    @staticmethod
    def kernel(one: Tensor, other: Tensor) -> Tensor:
        """Return r^2 log r^2 of the distances between points."""
        squared = (one[:, None] - other[None]).pow(2).sum(-1)
        return squared * torch.log(squared + 1e-9)

    def grid(self, image: Tensor) -> Tensor:
        """Return the sampling grid (N, height, width, 2)."""
        batch = image.size(0)
        moved = self.control + 0.3 * torch.tanh(self.locate(image)).view(batch, -1, 2)
        padded = torch.cat((moved, torch.zeros(batch, 3, 2)), dim=1)
        mapping = torch.bmm(self.inverse.repeat(batch, 1, 1), padded)
        return torch.bmm(self.lifted.repeat(batch, 1, 1), mapping).view(batch, *self.out, 2)

    def forward(self, image: Tensor) -> Tensor:
        return functional.grid_sample(image, self.grid(image), padding_mode="border", align_corners=True)


class ClampedThinPlate(ThinPlateText):
    """The same with its points in [0, 1], clamped there, and two outputs, as in ASTER's ``tps_spatial_transformer``."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        source = torch.clamp(self.grid(image) / 2 + 0.5, 0, 1)
        return functional.grid_sample(image, 2 * source - 1, align_corners=False), source


class FlowWarp(nn.Module):
    """Optical flow in pixels, normalised by the size as PWC-Net does; optionally with its mask of valid pixels."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.estimate, self.masked = nn.Conv2d(6, 2, 3, padding=1), masked

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        batch, _, height, width = second.size()
        flow = 4 * self.estimate(torch.cat((first, second), 1))
        x = torch.arange(0, width).view(1, -1).repeat(height, 1).view(1, 1, height, width).repeat(batch, 1, 1, 1)
        y = torch.arange(0, height).view(-1, 1).repeat(1, width).view(1, 1, height, width).repeat(batch, 1, 1, 1)
        places = torch.cat((x, y), 1).float() + flow
        places_x = 2.0 * places[:, 0] / max(width - 1, 1) - 1.0
        places_y = 2.0 * places[:, 1] / max(height - 1, 1) - 1.0
        grid = torch.stack((places_x, places_y), dim=-1)
        warped = functional.grid_sample(second, grid, align_corners=True)
        if not self.masked:
            return warped
        mask = functional.grid_sample(torch.ones_like(second), grid, align_corners=True)
        mask = torch.where(mask < 0.999, torch.zeros_like(mask), torch.ones_like(mask))
        return warped * mask


class Homography(nn.Module):
    """A homography of eight numbers on a meshgrid, divided by a denominator kept away from zero."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = locator(1, 8)

    def forward(self, image: Tensor) -> Tensor:
        batch, _, height, width = image.shape
        numbers = torch.cat((0.2 * self.locate(image), torch.zeros(batch, 1)), 1).view(-1, 3, 3) + torch.eye(3)
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        points = torch.stack((x.flatten(), y.flatten(), torch.ones(height * width)))
        moved = numbers @ points
        grid = (moved[:, :2] / (moved[:, 2:] + 1e-8)).permute(0, 2, 1).reshape(batch, height, width, 2)
        return functional.grid_sample(image, grid, align_corners=True)


class InverseCompositional(nn.Module):
    """Four warps composed as 3 x 3 matrices, each found on the picture that the ones before made (IC-STN)."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = locator(1, 6)

    def forward(self, image: Tensor) -> Tensor:
        warp = torch.eye(3).expand(image.shape[0], 3, 3)
        warped = image
        for _ in range(4):
            step = torch.cat((0.2 * self.locate(warped), torch.zeros(image.shape[0], 3)), 1).view(-1, 3, 3)
            warp = warp @ (torch.eye(3) + step)
            warped = functional.grid_sample(image, functional.affine_grid(warp[:, :2], list(image.shape)))
        return warped


class SoftArgmaxMotion(nn.Module):
    """Motion of keypoints found by soft-argmax, blended into one field (first-order motion model)."""

    def __init__(self, keypoints: int = 3) -> None:
        super().__init__()
        self.heat, self.masks = nn.Conv2d(1, keypoints, 5, padding=2), nn.Conv2d(2, keypoints + 1, 5, padding=2)

    def find(self, image: Tensor) -> Tensor:
        """Return the keypoints (N, K, 2) in [-1, 1]."""
        heat = self.heat(image)
        share = functional.softmax(heat.flatten(2) / 0.1, dim=2).view(heat.shape)
        y, x = torch.meshgrid(torch.linspace(-1, 1, heat.shape[2]), torch.linspace(-1, 1, heat.shape[3]), indexing="ij")
        return (share.unsqueeze(-1) * torch.stack((x, y), -1)).sum((2, 3))

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        batch, _, height, width = source.shape
        shift = (self.find(source) - self.find(driving)).view(batch, -1, 1, 1, 2)
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        identity = torch.stack((x, y), -1)[None, None]
        motions = torch.cat((identity.repeat(batch, 1, 1, 1, 1), identity + shift), 1)
        masks = functional.softmax(self.masks(torch.cat((source, driving), 1)), dim=1).unsqueeze(-1)
        return functional.grid_sample(source, (motions * masks).sum(1), align_corners=False)


class DepthReprojection(nn.Module):
    """Another camera's picture seen from this one: depth, inverted intrinsics, pose (SfMLearner, Monodepth2)."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, target: Tensor, source: Tensor, intrinsics: Tensor, pose: Tensor) -> Tensor:
        batch, _, height, width = target.shape
        x, y = pixel_grid(height, width)
        pixels = torch.stack((x.flatten(), y.flatten(), torch.ones(height * width)))[None].repeat(batch, 1, 1)
        points = (1 + 3 * self.depth(target)).view(batch, 1, -1) * (torch.inverse(intrinsics) @ pixels)
        points = torch.cat((points, torch.ones(batch, 1, height * width)), 1)
        seen = (intrinsics @ pose) @ points
        places = (seen[:, :2] / (seen[:, 2:] + 1e-7)).view(batch, 2, height, width).permute(0, 2, 3, 1)
        places = places / torch.tensor([width - 1.0, height - 1.0])
        return functional.grid_sample(source, (places - 0.5) * 2, padding_mode="border", align_corners=True)


class SplineDisplacement(nn.Module):
    """Displacements of a coarse lattice, made dense by a transposed convolution with a cubic B-spline."""

    def __init__(self, stride: int = 4) -> None:
        super().__init__()
        self.stride, self.locate = stride, locator(1, 2 * 6 * 6)
        distance = (torch.arange(1 - 2 * stride, 2 * stride) / stride).abs()
        near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
        line = torch.where(distance < 1, near, far)
        self.register_buffer("kernel", (line[:, None] * line)[None, None].repeat(2, 1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        lattice = 0.5 * self.locate(image).view(-1, 2, 6, 6)
        dense = functional.conv_transpose2d(lattice, self.kernel, stride=self.stride, groups=2)
        height, width = image.shape[2:]
        dense = dense[:, :, self.stride : self.stride + height, self.stride : self.stride + width]
        identity = functional.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)
        return functional.grid_sample(image, identity + dense.permute(0, 2, 3, 1), align_corners=False)


class BoxCrops(nn.Module):
    """Crops of boxes (x1, y1, x2, y2) in pixels, two of each picture, at a fixed size (RoIAlign by a sampler)."""

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        batch, channels, height, width = image.shape
        corners = boxes / torch.tensor([width, height, width, height]) * 2 - 1
        x1, y1, x2, y2 = corners.reshape(-1, 4).unbind(-1)
        theta = torch.zeros(2 * batch, 2, 3)
        theta[:, 0, 0], theta[:, 0, 2] = (x2 - x1) / 2, (x1 + x2) / 2
        theta[:, 1, 1], theta[:, 1, 2] = (y2 - y1) / 2, (y1 + y2) / 2
        grid = functional.affine_grid(theta, [2 * batch, channels, 6, 7], align_corners=False)
        return functional.grid_sample(image.repeat_interleave(2, 0), grid, align_corners=False)


class DeformableAttention(nn.Module):
    """Attention on points that each query chooses, of two levels (Deformable DETR)."""

    def __init__(self, width: int = 8, heads: int = 2, points: int = 3) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.offsets, self.weights = nn.Linear(width, heads * 2 * points * 2), nn.Linear(width, heads * 2 * points)

    def forward(self, query: Tensor, large: Tensor, small: Tensor) -> Tensor:
        batch, count, width = query.shape
        offsets = self.offsets(query).view(batch, count, self.heads, 2, self.points, 2)
        weights = self.weights(query).view(batch, count, self.heads, 1, -1).softmax(-1)
        sampled = []
        for level, maps in enumerate((large, small)):
            values = self.value(maps.flatten(2).transpose(1, 2)).transpose(1, 2)
            values = values.reshape(batch * self.heads, width // self.heads, *maps.shape[2:])
            places = torch.tanh(offsets[:, :, :, level]).transpose(1, 2).flatten(0, 1)
            sampled.append(functional.grid_sample(values, places, align_corners=False))
        weights = weights.transpose(1, 2).reshape(batch * self.heads, 1, count, -1)
        answer = (torch.cat(sampled, -1) * weights).sum(-1)
        return self.out(answer.view(batch, width, count).transpose(1, 2))
