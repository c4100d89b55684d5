"""Every network of this folder with one batch of its inputs, by a name that says what is in it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode

from . import libraries, transformers, warps


@dataclass(frozen=True)
class Construct:
    """A network as a stranger wrote it.

    Attributes:
        build: Makes the module; its weights are random.
        inputs: Makes a batch of so many of its inputs.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Tensor, ...]]


def _pictures(channels: int, count: int = 1) -> Callable[[int], tuple[Tensor, ...]]:
    """Return a maker of batches of small pictures, as often as a network takes one."""
    return lambda batch: tuple(torch.rand(batch, channels, 16, 20) for _ in range(count))


def _thetas(batch: int) -> Tensor:
    """Return thetas near the identity."""
    return torch.eye(2, 3) + 0.3 * torch.randn(batch, 2, 3)


def _compiled() -> nn.Module:
    compiled: nn.Module = torch.compile(transformers.Rotation(), backend="eager")  # type: ignore[assignment]
    return compiled


def _initialised(network: nn.Module, channels: int = 1) -> nn.Module:
    """Return a network whose lazy layers have seen a picture."""
    network(torch.rand(2, channels, 16, 20))
    return network


def _scored(answer: Callable[[Tensor, Tensor], object]) -> Callable[[], nn.Module]:
    return lambda: _initialised(transformers.Classifier(answer))


def _views(batch: int) -> tuple[Tensor, ...]:
    matrix = torch.tensor([[15.0, 0.0, 9.5], [0.0, 15.0, 7.5], [0.0, 0.0, 1.0]]).repeat(batch, 1, 1)
    pose = torch.eye(3, 4).repeat(batch, 1, 1) + 0.02 * torch.randn(batch, 3, 4)
    return torch.rand(batch, 3, 16, 20), torch.rand(batch, 3, 16, 20), matrix, pose


def _boxes(batch: int) -> tuple[Tensor, ...]:
    corner = torch.rand(batch, 2, 2) * 6
    return torch.rand(batch, 3, 16, 20), torch.cat((corner, corner + 4 + 5 * torch.rand(batch, 2, 2)), -1)


CONSTRUCTS: dict[str, Construct] = {
    "theta by view, every padding and mode": Construct(lambda: warps.EveryMode(False), _pictures(1)),
    "theta by view, every padding and mode, corners aligned": Construct(lambda: warps.EveryMode(True), _pictures(1)),
    "licence plates behind a transformer": Construct(warps.PlateReader, lambda batch: (torch.rand(batch, 3, 24, 94),)),
    "thin plate for lines of text, by bmm": Construct(warps.ThinPlateText, _pictures(1)),
    "thin plate clamped to [0, 1], two outputs": Construct(warps.ClampedThinPlate, _pictures(1)),
    "optical flow normalised by the size": Construct(lambda: warps.FlowWarp(False), _pictures(3, 2)),
    "optical flow with a mask of valid pixels": Construct(lambda: warps.FlowWarp(True), _pictures(3, 2)),
    "homography by meshgrid, epsilon in the division": Construct(warps.Homography, _pictures(1)),
    "four composed warps, inverse compositional": Construct(warps.InverseCompositional, _pictures(1)),
    "attention written into zeros": Construct(transformers.Attention, _pictures(1)),
    "rotation stacked of cos and sin": Construct(transformers.Rotation, _pictures(1)),
    "four transformers in parallel, expanded": Construct(lambda: transformers.Parallel(False), _pictures(3)),
    "four transformers in parallel, in a loop": Construct(lambda: transformers.Parallel(True), _pictures(3)),
    "motion field of soft-argmax keypoints": Construct(warps.SoftArgmaxMotion, _pictures(1, 2)),
    "depth reprojection, inverted intrinsics": Construct(warps.DepthReprojection, _views),
    "kornia warp_affine": Construct(lambda: libraries.KorniaWarp("warp_affine"), _pictures(1)),
    "kornia rotate": Construct(lambda: libraries.KorniaWarp("rotate"), _pictures(1)),
    "kornia warp_perspective": Construct(lambda: libraries.KorniaWarp("warp_perspective"), _pictures(1)),
    "kornia homography_warp": Construct(lambda: libraries.KorniaWarp("homography_warp"), _pictures(1)),
    "kornia thin plate": Construct(lambda: libraries.KorniaWarp("thin_plate"), _pictures(1)),
    "torchvision affine": Construct(lambda: libraries.VisionWarp("affine"), _pictures(3)),
    "torchvision rotate": Construct(lambda: libraries.VisionWarp("rotate"), _pictures(3)),
    "torchvision rotate, nearest": Construct(
        lambda: libraries.VisionWarp("rotate", InterpolationMode.NEAREST), _pictures(3)
    ),
    "torchvision perspective": Construct(lambda: libraries.VisionWarp("perspective"), _pictures(3)),
    "displacement by transposed convolution": Construct(warps.SplineDisplacement, _pictures(1)),
    "constant theta": Construct(transformers.ConstantTheta, _pictures(1)),
    "outputs as a dict": Construct(
        _scored(lambda scores, picture: {"scores": scores, "straight": picture}), _pictures(1)
    ),
    "outputs as labels": Construct(_scored(lambda scores, picture: scores.argmax(1)), _pictures(1)),
    "instance norm around the sampler": Construct(transformers.Normalized, _pictures(3)),
    "sampler alone at 256 pixels": Construct(
        transformers.SamplerAlone, lambda batch: (torch.rand(batch, 1, 256, 256), _thetas(batch))
    ),
    "float16": Construct(
        lambda: transformers.SamplerAlone().half(),
        lambda batch: (torch.rand(batch, 1, 64, 64).half(), _thetas(batch).half()),
    ),
    "float64": Construct(
        lambda: transformers.SamplerAlone(),
        lambda batch: (torch.rand(batch, 1, 16, 20).double(), _thetas(batch).double()),
    ),
    "DataParallel": Construct(lambda: nn.DataParallel(transformers.Attention()), _pictures(1)),
    "compiled": Construct(_compiled, _pictures(1)),
    "spectral norm": Construct(
        lambda: transformers.SpectralNormalized(
            nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.weight_norm
        ),
        _pictures(1),
    ),
    "spectral norm, written before PyTorch 1.9": Construct(
        lambda: transformers.SpectralNormalized(nn.utils.spectral_norm, nn.utils.weight_norm), _pictures(1)
    ),
    "tanh-limited theta, clamped grid": Construct(transformers.LimitedTheta, _pictures(1)),
    "inverse of theta": Construct(transformers.ThereAndBack, _pictures(1)),
    "crops by boxes": Construct(warps.BoxCrops, _boxes),
    "volumes": Construct(
        transformers.Volumes,
        lambda batch: (torch.rand(batch, 1, 6, 7, 8), torch.eye(3, 4) + 0.2 * torch.randn(batch, 3, 4)),
    ),
    "point cloud, no sampler": Construct(transformers.PointCloud, lambda batch: (torch.randn(batch, 3, 50),)),
    "deformable attention": Construct(
        warps.DeformableAttention,
        lambda batch: (torch.rand(batch, 5, 8), torch.rand(batch, 8, 6, 7), torch.rand(batch, 8, 3, 4)),
    ),
}
