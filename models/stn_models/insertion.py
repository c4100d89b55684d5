"""A classifier with spatial transformers at its input and in front of its layers, by name: ``affine@input``."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .grid import make_grid
from .localization import LocalizationNet, conv_bn_features, flat_size
from .sampler import Normalize
from .transformer import SpatialTransformer, input_of, insert_spatial_transformer

INPUT = "input"
"""The place of a transformer in front of the whole network."""

_LOCALIZATION_SIDE = 32
_INPUT_FILTERS, _INPUT_HIDDEN = (32, 32, 64), 64
_FEATURE_FILTERS, _FEATURE_HIDDEN = (16, 16, 32), 32  # a feature map has been looked at by the layers in front of it


class TransformerClassifier(nn.Module):
    """An optional spatial transformer, or several side by side, then normalisation, then a classifier.

    Args:
        transformer: Stands in front and samples raw pixels; None for a plain classifier.
        normalize: Normalises the sampled image.
        classifier: Maps the normalised image to logits.
    """

    def __init__(self, transformer: nn.Module | None, normalize: Normalize, classifier: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.normalize = normalize
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, K) for images (N, C, H, W) in [0, 1]."""
        if self.transformer is not None:
            image = self.transformer(image)
        logits: Tensor = self.classifier(self.normalize(image))
        return logits


def with_transformers(
    body: nn.Module,
    normalize: Normalize,
    channels: int,
    size: tuple[int, int],
    sampled: tuple[int, int],
    transformers: Sequence[str],
) -> TransformerClassifier:
    """Return a classifier of a body, with transformers at its input and in front of its submodules.

    Args:
        body: Maps a normalised image (N, C, h, w) to logits (N, K).
        normalize: Normalises what the body, and the localisation net at the input, get.
        channels: C.
        size: (height, width) of the image, pixels.
        sampled: (h, w), see ``sampled_size``.
        transformers: Grid generator and place of each, ``affine@input``, ``tps6@layer1``.

    Raises:
        ValueError: A name is unknown, two stand at one place, or the body does not take images of this size.
    """
    places = [parse_insertion(text) for text in transformers]
    if len(dict(places)) < len(places):
        raise ValueError(f"two transformers stand at one place: {', '.join(transformers)}")
    front = None
    try:
        for place, grid in sorted(places, key=lambda item: -item[0].count(".")):  # what it wraps has another name then
            if place == INPUT:
                front = _transformer(channels, size, grid, sampled, normalize)
                continue
            features = input_of(body, place, torch.zeros(1, channels, *sampled))
            shape = (features.shape[2], features.shape[3])
            insert_spatial_transformer(body, place, transformer=_transformer(features.shape[1], shape, grid, shape))
        flat_size(body, channels, sampled)
    except (RuntimeError, AssertionError, IndexError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{sampled[0]} x {sampled[1]} pixels (height x width) do not fit the network's layers ({reason})"
        ) from error
    return TransformerClassifier(front, normalize, body)


def parse_insertion(text: str) -> tuple[str, str]:
    """Return place and grid generator of a transformer such as ``affine@layer1``.

    Raises:
        ValueError: No grid generator has that name.
    """
    grid, _, place = text.partition("@")
    make_grid(grid, (2, 2))
    return place or INPUT, grid


def sampled_size(size: tuple[int, int], transformers: Sequence[str], longest: int | None) -> tuple[int, int]:
    """Return the size (height, width) that a body gets: that of the image, or what a transformer at the input samples.

    Args:
        size: (height, width) of the image, pixels.
        transformers: As for ``with_transformers``.
        longest: Longer side of what a transformer at the input samples; None for that of the image.

    Raises:
        ValueError: ``longest`` is more than the image has, or there is no transformer at the input.
    """
    if not any(place == INPUT for place, _ in map(parse_insertion, transformers)):
        if longest is not None:
            raise ValueError("output_size is for a transformer at the input; add one, or leave it out")
        return size
    if longest is not None and longest > max(size):
        raise ValueError(f"output_size is {longest}, more than the {max(size)} pixels of the picture")
    share = (longest or max(size)) / max(size)
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def _transformer(
    channels: int, size: tuple[int, int], grid: str, output_size: tuple[int, int], normalize: Normalize | None = None
) -> SpatialTransformer:
    """Return a transformer whose localisation net sees its input averaged down to ``_LOCALIZATION_SIDE``."""
    generator = make_grid(grid, output_size)
    filters, hidden = (_INPUT_FILTERS, _INPUT_HIDDEN) if normalize else (_FEATURE_FILTERS, _FEATURE_HIDDEN)
    reduction = -(-max(size) // _LOCALIZATION_SIDE)
    halvings = max(1, (min(size) // reduction).bit_length() - 1)
    features, count = conv_bn_features(channels, size, filters[:halvings], reduction, normalize, hidden)
    return SpatialTransformer(LocalizationNet(features, count, generator), generator)
