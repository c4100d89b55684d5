"""Batches for the training loop: drawn from memory as uint8, distorted and augmented on the training device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Generator, Tensor

from stn_runtime import InputError, PreprocessSpec, preprocess

from ..config import TrainConfig
from ..digits.scenes import Scenery
from ..geometry import unknown_placements
from .augmentations import Augmentation
from .distortions import distort, distorted_by, shares
from .labelled_images import LabelledImages, preprocessed

Batch = tuple[Tensor, Tensor, Tensor]
"""Images (N, C, H, W) in [0, 1], labels (N,), placements (N, 2, 3) as in ``Distorted``."""

_VALIDATION_BATCH = 500


def seed_for(*parts: int) -> int:
    """Return one seed made of several numbers, such as a run's seed and an epoch."""
    seed = 0
    for part in parts:
        seed = (seed * 1_000_003 + part + 1) % (2**63 - 1)
    return seed


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images (N, H, W, C) as the network's (N, C, H, W) float in [0, 1]."""
    return images.permute(0, 3, 1, 2).float() / 255


def rendered(
    data: LabelledImages,
    mixture: tuple[tuple[str, float], ...],
    spec: PreprocessSpec,
    seed: int,
    scenery: Scenery | None = None,
    device: torch.device | str = "cpu",
) -> LabelledImages:
    """Return ``data`` distorted once and brought to ``spec`` as on a device: what validation and evaluation measure.

    Args:
        data: Undistorted images; with a mixture, of 28 x 28 pixels.
        mixture: Distortions with their shares, each on its own canvas; empty for none.
        spec: Size and colour of the network's input.
        seed: Decides the distortions.
        scenery: What scenes are made with.
        device: Where the distortions are computed.
    """
    if not mixture:
        return preprocessed(data, spec)
    generator = Generator().manual_seed(seed)
    order = torch.randperm(len(data), generator=generator)  # folders are sorted by class; every class gets its share
    result = torch.empty(len(data), spec.height, spec.width, spec.channels, dtype=torch.uint8)
    placements = torch.empty(len(data), 2, 3)
    for part in torch.split(order, 500):
        first = 0
        for name, chosen in shares(part, mixture):
            images = to_float(data.images[chosen].to(device))
            distorted, placed = distorted_by(name, images, data.is_reject(chosen), generator, scenery)
            pictures = (distorted.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            for index, picture in zip(chosen, pictures, strict=True):
                result[index] = torch.from_numpy(preprocess(np.ascontiguousarray(picture), spec))
            placements[chosen] = placed.cpu()
            first += len(chosen)
    return replace(data, images=result, placements=placements)


@dataclass(frozen=True)
class Batches:
    """Batches of labelled images in a given order; a last image alone goes with the batch before it.

    Batch normalisation has no statistics of one image.
    """

    data: LabelledImages
    order: Tensor
    size: int

    def __len__(self) -> int:
        return len(self._sizes())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in torch.split(self.order, self._sizes()):
            yield self.data.images[chosen], self.data.labels[chosen]

    def _sizes(self) -> list[int]:
        whole, rest = divmod(len(self.order), self.size)
        if rest == 1 and whole:
            return [*[self.size] * (whole - 1), self.size + 1]
        return [*[self.size] * whole, *[rest] * (rest > 0)]


class ImageData(lightning.LightningDataModule):
    """Training and validation batches; everything random in an epoch follows from the seed and the epoch's number.

    On several devices each takes every n-th image of an epoch's order.

    Args:
        train: Undistorted training images.
        val: Validation images, ready for the network.
        config: Settings of the run.
        spec: Size and colour of the network's input.
        scenery: What scenes are made with.
    """

    def __init__(
        self,
        train: LabelledImages,
        val: LabelledImages,
        config: TrainConfig,
        spec: PreprocessSpec,
        scenery: Scenery | None = None,
    ) -> None:
        super().__init__()
        self.train, self.val, self.config, self.spec, self.scenery = train, val, config, spec, scenery
        self.mixture = config.mixture()
        try:
            self.augmentation = Augmentation(config.augment, (spec.height, spec.width), spec.channels)
        except ValueError as error:
            raise InputError(str(error)) from error
        self.generator = Generator()

    def train_dataloader(self) -> Batches:
        """Return the batches of one epoch; Lightning asks anew for each."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        rank, ranks = self._share()
        self.generator.manual_seed(seed_for(self.config.seed, epoch, 1, rank))
        order = self._order(Generator().manual_seed(seed_for(self.config.seed, epoch, 2)))
        whole = len(order) // ranks * ranks  # every rank must take the same number of steps
        return Batches(self.train, order[rank:whole:ranks], -(-self.config.batch_size // ranks))

    def val_dataloader(self) -> Batches:
        """Return the validation batches."""
        rank, ranks = self._share()
        return Batches(self.val, torch.arange(rank, len(self.val), ranks), _VALIDATION_BATCH)

    def _share(self) -> tuple[int, int]:
        """Return this device's number and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _order(self, generator: Generator) -> Tensor:
        if self.config.balance == "sampling":
            weights = 1 / torch.bincount(self.train.labels).double()
            return torch.multinomial(weights[self.train.labels], len(self.train), replacement=True, generator=generator)
        return torch.randperm(len(self.train), generator=generator)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> Batch:
        """Return a uint8 batch on the device as the network's input."""
        images, labels = batch
        prepared = to_float(images)
        if self.trainer is not None and self.trainer.training:
            prepared, placements = self.distorted_and_augmented(prepared, labels, self.generator)
            return prepared, labels, placements
        return prepared, labels, prepared.new_empty(0)

    def distorted_and_augmented(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return training images (N, C, S, S) as the network will see them, and where distortions placed them."""
        placements = unknown_placements(len(images)).to(images.device)
        if self.mixture:
            reject = labels.cpu() == (-1 if self.train.reject is None else self.train.reject)
            images, placements = distort(images, self.mixture, self.spec.height, generator, reject, self.scenery)
        return (self.augmentation(images, generator) if self.config.augment else images), placements
