"""Augmentations by name: kornia's, set up for small images, on the training device, a batch at a time."""

from collections.abc import Callable, Sequence

import kornia.augmentation as kornia
import torch
from torch import Generator, Tensor, nn


def _jitter(_size: int, channels: int) -> nn.Module:
    if channels == 3:
        return nn.Sequential(kornia.ColorJitter(0.3, 0.3, 0.3, 0.05, p=0.8))
    return nn.Sequential(kornia.RandomBrightness((0.7, 1.3), p=0.8), kornia.RandomContrast((0.7, 1.3), p=0.8))


AUGMENTATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "crop": lambda size, _: kornia.RandomCrop((size, size), padding=max(1, size // 8)),
    "flip": lambda *_: kornia.RandomHorizontalFlip(p=0.5),
    "erase": lambda *_: kornia.RandomErasing(p=0.5, scale=(0.02, 0.15)),
    "jitter": _jitter,
    "affine": lambda *_: kornia.RandomAffine(15.0, translate=(0.1, 0.1), scale=(0.85, 1.15), p=0.8),
}
"""Maker of each augmentation by its name on the command line; its arguments are side and channels of the images."""


class Augmentation:
    """A sequence of named augmentations.

    Args:
        names: Keys of AUGMENTATIONS, applied in this order.
        size: Side of the images, pixels.
        channels: Channels of the images.

    Raises:
        ValueError: An unknown name.
    """

    def __init__(self, names: Sequence[str], size: int, channels: int) -> None:
        for name in names:
            if name not in AUGMENTATIONS:
                raise ValueError(f"no augmentation '{name}'; choose from {', '.join(AUGMENTATIONS)}")
        self.steps = [AUGMENTATIONS[name](size, channels) for name in names]

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return the augmented images, (N, C, S, S) in [0, 1]; ``generator`` decides everything random."""
        seed = int(torch.randint(2**31, (1,), generator=generator))
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            torch.manual_seed(seed)  # kornia draws from the global generator
            for step in self.steps:
                images = step(images)
        return images.clamp(0, 1)
