"""Accuracy against how far test pictures are turned, scaled, shifted, sheared or drowned in noise."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor
from tqdm import tqdm

from stn_models import Sampler, make_grid
from stn_runtime.errors import printable

from ..data.data_module import seed_for, to_float
from ..data.labelled_images import LabelledImages
from ..pictures import save_figure
from .accuracy import Subject, evaluate, evaluate_at_identity, spaced

MOST_PICTURES = 1000
_LONGEST_NAME = 70  # in the legend


@dataclass(frozen=True)
class Axis:
    """One way to spoil a picture, more and more.

    Attributes:
        label: Of the plot's axis, with its unit.
        values: How far, in order; among them the picture as it is.
        apply: Maps images (N, C, S, S) in [0, 1], a value and a generator to images of the same shape.
    """

    label: str
    values: tuple[float, ...]
    apply: Callable[[Tensor, float, Generator], Tensor]


def _warped(images: Tensor, theta: Tensor) -> Tensor:
    """Return images sampled by a theta for square pictures, which keeps its angles in others."""
    height, width = images.shape[2:]
    aspect, shorter = height / width, min(height, width)
    across, down = shorter / width, shorter / height
    theta = theta * torch.tensor([1, aspect, across, 1 / aspect, 1, down])
    grid = make_grid("affine", (images.shape[2], images.shape[3]))
    warped: Tensor = Sampler(padding="border")(images, grid(theta.expand(len(images), -1)))
    return warped


def _rotated(images: Tensor, degrees: float, _: Generator) -> Tensor:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _warped(images, torch.tensor([[cosine, -sine, 0, sine, cosine, 0]]))


def _scaled(images: Tensor, factor: float, _: Generator) -> Tensor:
    return _warped(images, torch.tensor([[1 / factor, 0, 0, 0, 1 / factor, 0]]))


def _shifted(images: Tensor, share: float, generator: Generator) -> Tensor:
    angle = torch.rand(len(images), generator=generator) * 2 * math.pi
    theta = torch.zeros(len(images), 6)
    theta[:, 0] = theta[:, 4] = 1
    theta[:, 2], theta[:, 5] = 2 * share * torch.cos(angle), 2 * share * torch.sin(angle)
    return _warped(images, theta)


def _sheared(images: Tensor, shear: float, _: Generator) -> Tensor:
    return _warped(images, torch.tensor([[1.0, shear, 0, 0, 1, 0]]))


def _noisy(images: Tensor, deviation: float, generator: Generator) -> Tensor:
    return (images + deviation * torch.randn(images.shape, generator=generator)).clamp(0, 1)


AXES: Mapping[str, Axis] = {
    "rotation": Axis("rotation, degrees", (-90, -60, -45, -30, -15, 0, 15, 30, 45, 60, 90), _rotated),
    "scale": Axis("scale", (0.4, 0.5, 0.6, 0.7, 0.85, 1, 1.2, 1.4, 1.7, 2), _scaled),
    "shift": Axis("shift, share of the side", (0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4), _shifted),
    "shear": Axis("shear", (-0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8), _sheared),
    "noise": Axis("noise, standard deviation of the range", (0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4), _noisy),
}
"""The ways, by name; shifts go in a random direction."""


@dataclass(frozen=True)
class Point:
    """Accuracy of one model at one point of a sweep; at the identity None where theta cannot be held."""

    model: str
    axis: str
    value: float
    accuracy: float
    accuracy_at_identity: float | None


def sweep(subjects: Sequence[Subject], data: LabelledImages, seed: int) -> list[Point]:
    """Measure every model along every axis, all on the same pictures.

    Whole pictures are transformed about their centre; beyond their border its pixels repeat, as in front of a wall.

    Args:
        subjects: Models of one preprocessing.
        data: Labelled pictures, ready for them; at most MOST_PICTURES are taken, evenly spaced.
        seed: Decides noise and directions.
    """
    data = spaced(data, MOST_PICTURES)
    images = to_float(data.images)
    points = []
    steps = [(name, value) for name, axis in AXES.items() for value in axis.values]
    for number, (name, value) in enumerate(tqdm(steps, "sweeping", leave=False, disable=None)):
        spoiled = AXES[name].apply(images, value, Generator().manual_seed(seed_for(seed, number)))
        pictures = (spoiled * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        changed = replace(data, images=pictures)
        for subject in subjects:
            held = evaluate_at_identity(subject, changed)
            points.append(
                Point(
                    str(subject.path), name, value, evaluate(subject, changed).accuracy, held.accuracy if held else None
                )
            )
    return points


def save_sweep(points: Sequence[Point], path: Path) -> None:
    """Draw a panel an axis, a colour a model: solid as learned, dashed with theta at the identity."""
    models = list(dict.fromkeys(point.model for point in points))
    figure = Figure(figsize=(15, 3.6 + 0.22 * len(models)), layout="constrained")
    for axes, (name, axis) in zip(figure.subplots(1, len(AXES), sharey=True), AXES.items(), strict=True):
        for number, model in enumerate(models):
            own = [point for point in points if (point.model, point.axis) == (model, name)]
            values = [point.value for point in own]
            width = 1.2 + 1.6 * (len(models) - 1 - number)  # models that agree lie on one another
            style = {"color": f"C{number}", "linewidth": width}
            label = printable(model, _LONGEST_NAME)
            axes.plot(values, [100 * point.accuracy for point in own], label=label, **style)
            held = [100 * point.accuracy_at_identity for point in own if point.accuracy_at_identity is not None]
            if held:
                axes.plot(values, held, linestyle="--", label=f"{label}, theta at the identity", **style)
        axes.set(xlabel=axis.label, ylim=(0, 101))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy, %")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)
