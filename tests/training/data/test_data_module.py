"""Batches: all of an epoch's randomness comes from the seed and the epoch's number; validation is rendered once."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from stn_runtime import PreprocessSpec
from stn_training.config import TrainConfig
from stn_training.data.data_module import ImageData, rendered, seed_for, to_float
from stn_training.data.labelled_images import LabelledImages

SPEC = PreprocessSpec(28, 28, 1)


def numbered(count: int = 50, classes: int = 5) -> LabelledImages:
    """Images that hold their own number; sorted by class, as a folder's are."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 28, 28, 1).clone()
    labels = torch.arange(count) * classes // count
    return LabelledImages(images, labels, tuple("abcdefgh"[:classes]), "numbered")


def in_epoch(data: ImageData, epoch: int, training: bool = True, rank: int = 0, ranks: int = 1) -> ImageData:
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        current_epoch=epoch, training=training, global_rank=rank, world_size=ranks
    )
    return data


def batches(epoch: int, seed: int = 0, **options: object) -> list[tuple[Tensor, Tensor]]:
    config = TrainConfig("sklearn-digits", "fcn", batch_size=16, seed=seed, **options)  # type: ignore[arg-type]
    data = in_epoch(ImageData(numbered(), numbered(), config, SPEC), epoch)
    return [data.on_after_batch_transfer((images, labels), 0)[:2] for images, labels in data.train_dataloader()]


def test_uint8_pictures_become_floats_with_channels_first() -> None:
    images = torch.tensor([[[[0, 51, 255]] * 4] * 2], dtype=torch.uint8)  # (1, 2, 4, 3)
    floats = to_float(images)
    assert floats.shape == (1, 3, 2, 4)
    assert floats[0, :, 0, 0].tolist() == pytest.approx([0, 0.2, 1])


def test_seeds_differ_for_every_combination_and_fit_into_63_bits() -> None:
    seeds = {seed_for(a, b, c) for a in (0, 1, 2, 2**62) for b in range(20) for c in range(4)}
    assert len(seeds) == 4 * 20 * 4
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    assert seed_for(1, 2) == seed_for(1, 2) != seed_for(2, 1)


def test_every_image_comes_once_an_epoch_with_its_label() -> None:
    images, labels = (torch.cat(parts) for parts in zip(*batches(0), strict=True))
    numbers = (images[:, 0, 0, 0] * 255).round().long()
    assert sorted(numbers.tolist()) == list(range(50))
    assert torch.equal(labels, numbers // 10)


def test_the_last_images_of_an_epoch_are_not_dropped() -> None:
    assert [len(labels) for _, labels in batches(0)] == [16, 16, 16, 2]


@pytest.mark.parametrize("options", [{}, {"distort": "r", "augment": ("erase", "jitter")}], ids=["plain", "augmented"])
def test_an_epoch_can_be_repeated_and_another_differs(options: dict[str, object]) -> None:
    torch.manual_seed(1)
    first = batches(3, **options)
    torch.manual_seed(2)
    for (images, labels), (again, same) in zip(first, batches(3, **options), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(first, batches(4, **options), strict=True))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(first, batches(3, seed=9, **options), strict=True))


def test_validation_is_neither_shuffled_nor_augmented() -> None:
    config = TrainConfig("sklearn-digits", "fcn", augment=("erase", "flip", "affine"))
    data = in_epoch(ImageData(numbered(), numbered(), config, SPEC), 0, training=False)
    ((images, labels, _),) = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    assert torch.equal(images, to_float(numbered().images))
    assert torch.equal(labels, numbered().labels)


def test_undistorted_images_are_rendered_as_a_device_resizes_them(digits: Tensor) -> None:
    images = (digits[:4] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    data = LabelledImages(images, torch.arange(4), tuple("abcd"), "here")
    result = rendered(data, (), PreprocessSpec(14, 14, 3), seed=0)
    for index in range(4):
        grey = cv2.resize(images[index, :, :, 0].numpy(), (14, 14), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(result.images[index].numpy(), np.repeat(grey[:, :, None], 3, axis=2))
    assert (result.labels.tolist(), result.classes, result.source) == ([0, 1, 2, 3], tuple("abcd"), "here")


def test_rendering_is_decided_by_its_seed(digits: Tensor) -> None:
    images = (digits * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    data = LabelledImages(images, torch.arange(100) % 10, tuple("0123456789"), "digits")
    mixture, spec = (("rts", 0.5), ("camera", 0.5)), PreprocessSpec(56, 56, 1)
    first, again, other = (rendered(data, mixture, spec, seed) for seed in (1, 1, 2))
    assert first.images.shape == (100, 56, 56, 1)
    assert first.images.dtype == torch.uint8
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.equal(first.labels, data.labels)


def test_every_part_of_a_mixture_keeps_its_place_when_rendered(digits: Tensor) -> None:
    images = (digits[:10] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    data = LabelledImages(images, torch.arange(10), tuple("0123456789"), "digits")
    result = rendered(data, (("r", 0.5), ("none", 0.5)), SPEC, seed=0)
    untouched = [bool(torch.equal(*pair)) for pair in zip(result.images, images, strict=True)]
    assert sum(untouched) == 5
    ink, original = result.images.float().sum(dim=(1, 2, 3)), images.float().sum(dim=(1, 2, 3))
    np.testing.assert_allclose(ink / original, 1, atol=0.06)


def test_every_class_gets_its_share_of_every_distortion() -> None:
    data = numbered(100, classes=5)
    data.images[:] = 200
    result = rendered(data, (("tc", 0.5), ("none", 0.5)), PreprocessSpec(60, 60, 1), seed=0)
    cluttered = (result.images == 0).flatten(1).any(dim=1)  # the undistorted fill the picture
    for label in range(5):
        assert 4 <= int(cluttered[result.labels == label].sum()) <= 16


def test_two_devices_share_an_epoch_without_a_picture_twice() -> None:
    config = TrainConfig("sklearn-digits", "fcn", batch_size=16)
    numbers = []
    for rank in range(2):
        data = in_epoch(ImageData(numbered(51), numbered(51), config, SPEC), 0, rank=rank, ranks=2)
        drawn = [images[:, 0, 0, 0] for images, _ in data.train_dataloader()]
        assert [len(part) for part in drawn] == [8, 8, 9], "both must take the same number of steps"
        numbers += torch.cat(drawn).tolist()
    assert len(numbers) == len(set(numbers)) == 50
    seen = [in_epoch(ImageData(numbered(51), numbered(51), config, SPEC), 0, rank=r, ranks=2) for r in range(2)]
    watched = [int(n) for data in seen for images, _ in data.val_dataloader() for n in images[:, 0, 0, 0]]
    assert sorted(watched) == list(range(51))


def test_balanced_sampling_draws_every_class_as_often() -> None:
    data = numbered(200, classes=2)
    uneven = data.select(torch.cat([torch.arange(100), torch.arange(190, 200)]))
    config = TrainConfig("sklearn-digits", "fcn", batch_size=16, balance="sampling")
    drawn = torch.cat(
        [
            labels
            for epoch in range(10)
            for _, labels in in_epoch(ImageData(uneven, uneven, config, SPEC), epoch).train_dataloader()
        ]
    )
    assert len(drawn) == 1100
    assert 0.4 < float(drawn.float().mean()) < 0.6
