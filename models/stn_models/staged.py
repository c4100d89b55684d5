"""Small networks of named stages, which take spatial transformers at their input and in front of any stage."""

from itertools import pairwise

from torch import nn

from .insertion import sampled_size, with_transformers
from .localization import conv_bn
from .sampler import Normalize


def vgg(
    *,
    image_size: int = 48,
    image_width: int | None = None,
    channels: int = 3,
    classes: int = 10,
    transformer: tuple[str, ...] = (),
    output_size: int | None = None,
    width: int = 32,
    dropout: float = 0.2,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return a small network of ``stage1`` to ``stage3``, two 3 x 3 convolutions each, and transformers if any.

    Behind each stage the picture is halved; what is left is averaged. ``transformer`` and ``output_size`` are as in
    ``backbones.backbone``.
    """
    size = (image_size, image_width or image_size)
    sampled = sampled_size(size, transformer, output_size)

    body = nn.Sequential()
    body.add_module("stage1", _stage(channels, width, width))
    body.add_module("stage2", _stage(width, 2 * width, 2 * width))
    body.add_module("stage3", _stage(2 * width, 4 * width, 4 * width))
    body.add_module("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)))
    body.add_module("logits", nn.Linear(4 * width, classes))
    return with_transformers(body, Normalize(mean, std), channels, size, sampled, transformer)


def speller(
    *,
    image_size: int = 64,
    image_width: int | None = None,
    channels: int = 3,
    classes: int = 10,
    positions: int = 5,
    transformer: tuple[str, ...] = (),
    output_size: int | None = None,
    width: int = 16,
    hidden: int = 128,
    dropout: float = 0.2,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> nn.Module:
    """Return a network that spells a text: logits (N, D, K), one label at each of ``positions``.

    ``stage1`` is a 3 x 3 convolution, ``stage2`` to ``stage4`` are two each, and each halves the picture, the last its
    height alone: a text runs across, and five digits need more than four columns. A hidden layer sees all that is left,
    and every position has its own output layer on it (Jaderberg et al. 2015, appendix A.2, with smaller and fewer
    filters). ``transformer`` and ``output_size`` are as in ``backbones.backbone``; the paper's
    ST-CNN Single is ``affine@input``, its Multi has further ones at ``stage2``, ``stage3`` and ``stage4``.
    """
    size = (image_size, image_width or image_size)
    sampled = sampled_size(size, transformer, output_size)
    if min(sampled) < 16:
        raise ValueError(f"a speller halves the height four times and needs 16 pixels a side, got {min(sampled)}")

    body = nn.Sequential()
    body.add_module("stage1", _stage(channels, width))
    for number in (2, 3, 4):
        halved = (2, 1) if number == 4 else 2
        body.add_module(f"stage{number}", _stage((number - 1) * width, number * width, number * width, pool=halved))
    left = 4 * width * (sampled[0] // 16) * (sampled[1] // 8)
    body.add_module(
        "head",
        nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(left, hidden), nn.ReLU(), nn.Dropout(dropout)),
    )
    body.add_module(
        "logits", nn.Sequential(nn.Linear(hidden, positions * classes), nn.Unflatten(1, (positions, classes)))
    )
    return with_transformers(body, Normalize(mean, std), channels, size, sampled, transformer)


def _stage(*filters: int, pool: int | tuple[int, int] = 2) -> nn.Module:
    """Return 3 x 3 convolutions from each number of filters to the next, and a halving."""
    convolutions = [conv_bn(inputs, outputs) for inputs, outputs in pairwise(filters)]
    return nn.Sequential(*convolutions, nn.MaxPool2d(pool))
