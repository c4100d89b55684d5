"""Batches for the training loop: drawn from memory as uint8, distorted and augmented on the training device."""

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Generator, Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from stn_runtime import PreprocessSpec, preprocess

from .augmentations import Augmentation
from .config import TrainConfig
from .datasets import LabelledImages
from .distortions import DISTORTIONS, distort, shares

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
        spec: What the network takes.
        seed: Decides the distortions.
    """
    generator = Generator().manual_seed(seed)
    pictures: list[Tensor] = []
    for part in torch.split(data.images, 1000) if mixture else ():
        images = to_float(part)
        for name, chosen in shares(images, mixture):
            distorted = chosen if name == "none" else DISTORTIONS[name].apply(chosen, generator)
            pictures += (distorted.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    numbers = [preprocess(picture.numpy(), spec) for picture in (pictures if mixture else data.images)]
    return LabelledImages(torch.from_numpy(np.stack(numbers)), data.labels, data.classes, data.source)


class ImageData(lightning.LightningDataModule):
    """Training and validation batches; everything random in an epoch follows from the seed and the epoch's number.

    Args:
        train: Undistorted training images.
        val: Validation images, ready for the network.
        config: Of the run.
        spec: What the network takes.
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
        order = Generator().manual_seed(seed_for(self.config.seed, epoch, 2))
        batches = BatchSampler(
            RandomSampler(self.train.labels, generator=order), self.config.batch_size, drop_last=False
        )
        return DataLoader(TensorDataset(self.train.images, self.train.labels), sampler=batches, batch_size=None)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the validation batches."""
        batches = BatchSampler(SequentialSampler(self.val.labels), 500, drop_last=False)
        return DataLoader(TensorDataset(self.val.images, self.val.labels), sampler=batches, batch_size=None)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn a uint8 batch on the device into the network's input."""
        images, labels = batch
        prepared = to_float(images)
        if self.trainer is not None and self.trainer.training:
            prepared = self.distorted_and_augmented(prepared, self.generator)
        return prepared, labels

    def distorted_and_augmented(self, images: Tensor, generator: Generator) -> Tensor:
        """Return training images (N, C, S, S) as the network will see them."""
        if self.config.mixture():
            images = distort(images, self.config.mixture(), self.spec.height, generator)
        return self.augmentation(images, generator) if self.config.augment else images
