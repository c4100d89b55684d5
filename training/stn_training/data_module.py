"""Batches for the training loop: drawn from memory as uint8, distorted and augmented on the training device."""

from dataclasses import replace

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Generator, Tensor
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

from stn_runtime import PreprocessSpec, preprocess

from .augmentations import Augmentation
from .config import TrainConfig
from .datasets import LabelledImages, preprocessed
from .distortions import distort, distorted_by, shares

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) in [0, 1] and labels (N,)."""


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
    data: LabelledImages, mixture: tuple[tuple[str, float], ...], spec: PreprocessSpec, seed: int
) -> LabelledImages:
    """Return ``data`` distorted once and brought to ``spec`` as on a device: what validation and evaluation measure.

    Args:
        data: Undistorted images; with a mixture, of 28 x 28 pixels.
        mixture: Distortions with their shares, each on its own canvas; empty for none.
        spec: Size and colour of the network's input.
        seed: Decides the distortions.
    """
    if not mixture:
        return preprocessed(data, spec)
    generator = Generator().manual_seed(seed)
    order = torch.randperm(len(data), generator=generator)  # folders are sorted by class; every class gets its share
    result = torch.empty(len(data), spec.height, spec.width, spec.channels, dtype=torch.uint8)
    placements = torch.empty(len(data), 2, 3)
    for part in torch.split(order, 1000):
        first = 0
        for name, chosen in shares(to_float(data.images[part]), mixture):
            distorted, placed = distorted_by(name, chosen, generator)
            pictures = (distorted.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
            indices = part[first : first + len(chosen)]
            for index, picture in zip(indices, pictures, strict=True):
                result[index] = torch.from_numpy(preprocess(np.ascontiguousarray(picture), spec))
            placements[indices] = placed
            first += len(chosen)
    return replace(data, images=result, placements=placements)


class ImageData(lightning.LightningDataModule):
    """Training and validation batches; everything random in an epoch follows from the seed and the epoch's number.

    Args:
        train: Undistorted training images.
        val: Validation images, ready for the network.
        config: Settings of the run.
        spec: Size and colour of the network's input.
    """

    def __init__(self, train: LabelledImages, val: LabelledImages, config: TrainConfig, spec: PreprocessSpec) -> None:
        super().__init__()
        self.train, self.val, self.config, self.spec = train, val, config, spec
        self.augmentation = Augmentation(config.augment, spec.height, spec.channels)
        self.generator = Generator()

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the batches of one epoch; Lightning asks anew for each."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        self.generator.manual_seed(seed_for(self.config.seed, epoch, 1))
        shuffle = Generator().manual_seed(seed_for(self.config.seed, epoch, 2))
        order = torch.randperm(len(self.train), generator=shuffle).tolist()
        return self._loader(self.train, BatchSampler(order, self.config.batch_size, drop_last=False))

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the validation batches."""
        return self._loader(self.val, BatchSampler(range(len(self.val)), 500, drop_last=False))

    @staticmethod
    def _loader(data: LabelledImages, batches: BatchSampler) -> DataLoader[tuple[Tensor, ...]]:
        # Without a generator of its own, a loader draws from the global one at the start of each iteration.
        dataset = TensorDataset(data.images, data.labels)
        return DataLoader(dataset, sampler=batches, batch_size=None, generator=Generator())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Return a uint8 batch on the device as the network's input."""
        images, labels = batch
        prepared = to_float(images)
        if self.trainer is not None and self.trainer.training:
            prepared = self.distorted_and_augmented(prepared, self.generator)
        return prepared, labels

    def distorted_and_augmented(self, images: Tensor, generator: Generator) -> Tensor:
        """Return training images (N, C, S, S) as the network will see them."""
        if self.config.mixture():
            images = distort(images, self.config.mixture(), self.spec.height, generator).images
        return self.augmentation(images, generator) if self.config.augment else images
