"""What the transformers do, class by class: the angle, scale, shear and shift of what they sample."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from stn_models import GridGenerator, recorded_transforms
from stn_runtime.errors import printable

from ..data.data_module import to_float
from ..data.labelled_images import LabelledImages
from ..pictures import save_figure
from ..tables import aligned

QUANTITIES = ("angle, degrees", "scale", "shear", "shift x", "shift y")
"""Of the region that is sampled, as it lies on the transformer's input: turned counter-clockwise by the angle; the
root of its area as a share of the input's; how far its upright side leans; where its centre lies from the middle, as
shares of the side, to the right and down."""

MOST_PICTURES = 2000
_BATCH = 200
_MOST_CLASSES = 12  # in a plot
_LONGEST_NAME = 12
_FLAT = 1e-6  # least determinant that a shear is told of


@dataclass(frozen=True)
class Thetas:
    """What one transformer did on labelled pictures.

    Attributes:
        name: Of its module.
        found: (N, 5), in the order of QUANTITIES.
        true: What would have undone the distortion, (N, 5), NaN where unknown; None where nothing was distorted.
    """

    name: str
    found: NDArray[np.float64]
    true: NDArray[np.float64] | None

    def errors(self) -> NDArray[np.float64] | None:
        """Return found minus true, (N, 5), angles in -180 to 180; None where nothing is known."""
        if self.true is None or np.isnan(self.true).all():
            return None
        difference = self.found - self.true
        difference[:, 0] = (difference[:, 0] + 180) % 360 - 180
        return difference


@dataclass(frozen=True)
class Row:
    """Distribution of one quantity over the pictures of one class; the error's median is of its size."""

    transformer: str
    label: str
    quantity: str
    pictures: int
    mean: float
    deviation: float
    percentile_5: float
    median: float
    percentile_95: float
    median_error: float | None


def decomposed(matrices: Tensor) -> Tensor:
    """Return angle, scale, shear and shift, (N, 5) as in QUANTITIES, of affine thetas (N, 2, 3)."""
    matrices = matrices.double()
    (a, b, x), (c, d, y) = matrices[:, 0].T, matrices[:, 1].T
    determinant = a * d - b * c
    shear = torch.where(determinant.abs() > _FLAT, (a * b + c * d) / determinant, torch.nan)
    return torch.stack([torch.rad2deg(torch.atan2(-c, a)), determinant.abs().sqrt(), shear, x / 2, y / 2], dim=1)


def affine_part(grid: GridGenerator, theta: Tensor) -> Tensor:
    """Return the affine map (N, 2, 3) nearest to the sampling grid of theta (N, P), in least squares."""
    start = grid(grid.identity()[None].to(theta)).view(-1, 2).double()
    ones = torch.ones(len(start), 1, dtype=torch.double, device=theta.device)
    inverse = torch.linalg.pinv(torch.cat([start, ones], dim=1))
    points = grid(theta).flatten(1, 2).double()
    affine: Tensor = (inverse @ points).mT
    return affine


def measure_thetas(network: nn.Module, data: LabelledImages) -> list[Thetas]:
    """Return what each transformer of a network does, in order of use; none for a network without one.

    Args:
        network: In evaluation mode, on the CPU.
        data: Labelled pictures, ready for it.
    """
    parts: dict[str, list[Tensor]] = {}
    batches = torch.split(data.images, _BATCH)
    for images in tqdm(batches, "reading theta", leave=False, disable=None):
        with torch.inference_mode(), recorded_transforms(network) as calls:
            network(to_float(images))
            for call in calls:
                matrices = affine_part(call.transformer.grid, call.theta.float())
                aspect = call.image.shape[3] / call.image.shape[2]
                matrices[:, 0, 1] *= aspect  # from normalised coordinates to pixels, in which angles are angles
                matrices[:, 1, 0] /= aspect
                parts.setdefault(call.name, []).append(decomposed(matrices))
    true = None if data.placements is None else decomposed(data.placements).numpy()
    return [
        Thetas(name, torch.cat(values).numpy(), None if number else true)  # a placement is one on the picture itself
        for number, (name, values) in enumerate(parts.items())
    ]


def rows(thetas: Sequence[Thetas], data: LabelledImages) -> Iterator[Row]:
    """Yield the distribution of every quantity, for all pictures and for each class."""
    names, numbers = data.groups()
    labels = numbers.numpy()
    groups = {"all": np.ones(len(labels), bool)} | {name: labels == index for index, name in enumerate(names)}
    for one in thetas:
        errors = one.errors()
        for label, chosen in groups.items():
            for column, quantity in enumerate(QUANTITIES):
                values = one.found[chosen, column]
                values = values[np.isfinite(values)]
                if not len(values):
                    continue
                low, middle, high = np.percentile(values, (5, 50, 95))
                known = None if errors is None else np.abs(errors[chosen, column])
                known = known[np.isfinite(known)] if known is not None else None
                error = float(np.median(known)) if known is not None and len(known) else None
                mean, deviation = float(values.mean()), float(values.std())
                yield Row(
                    one.name,
                    label,
                    quantity,
                    len(values),
                    mean,
                    deviation,
                    float(low),
                    float(middle),
                    float(high),
                    error,
                )


def table(found: Sequence[Row]) -> str:
    """Return the rows of all pictures together as text."""
    cells: list[tuple[str, ...]] = [("transformer", "", "5 %", "median", "95 %", "from the true one")]
    for row in found:
        if row.label == "all":
            error = "-" if row.median_error is None else f"{row.median_error:.3f}"
            numbers = (f"{value:.3f}" for value in (row.percentile_5, row.median, row.percentile_95))
            cells.append((printable(row.transformer, 30), row.quantity, *numbers, error))
    return aligned(cells)


def save_thetas(thetas: Sequence[Thetas], data: LabelledImages, path: Path) -> None:
    """Draw the distributions by class, a row a transformer, and below them what was found against what is true."""
    known = [one for one in thetas if one.errors() is not None]
    names, numbers = data.groups()
    counts = torch.bincount(numbers, minlength=len(names))
    shown = sorted(counts.argsort(descending=True, stable=True)[:_MOST_CLASSES].tolist())
    height = 3.0 * (len(thetas) + len(known)) + 0.5
    figure = Figure(figsize=(17, height), layout="constrained")
    panels = figure.subplots(len(thetas) + len(known), len(QUANTITIES), squeeze=False)
    for line, one in zip(panels, thetas, strict=False):
        for column, axes in enumerate(line):
            _draw_classes(axes, one.found[:, column], data, shown)
            axes.set_ylabel(QUANTITIES[column])
        line[0].set_title(printable(one.name, 40), loc="left", parse_math=False)
    for line, one in zip(panels[len(thetas) :], known, strict=True):
        for column, axes in enumerate(line):
            _draw_truth(axes, one, column)
        line[0].set_title(f"{printable(one.name, 40)}, against the true distortion", loc="left", parse_math=False)
    if len(shown) < len(names):
        figure.suptitle(f"the {len(shown)} classes of {len(names)} with the most pictures", fontsize="medium")
    save_figure(figure, path)


def _draw_classes(axes: Axes, values: NDArray[np.float64], data: LabelledImages, shown: Sequence[int]) -> None:
    classes, numbers = data.groups()
    labels = numbers.numpy()
    own = [values[(labels == index) & np.isfinite(values)] for index in shown]
    axes.boxplot(own, whis=(5, 95), showfliers=False, widths=0.6, medianprops={"color": "C1"})
    names = [printable(classes[index], _LONGEST_NAME) for index in shown]
    axes.set_xticklabels(names, rotation=90 if max(map(len, names)) > 2 else 0, parse_math=False)
    axes.grid(axis="y", alpha=0.3)


def _draw_truth(axes: Axes, one: Thetas, column: int) -> None:
    true = np.array([]) if one.true is None else one.true[:, column]
    few = min(1.0, 300 / max(len(true), 1))  # points are larger and darker where there are not many
    axes.scatter(true, one.found[:, column], s=3 + 15 * few, alpha=0.3 + 0.5 * few, linewidths=0)
    ends = np.nanpercentile(true, (0.5, 99.5))
    axes.plot(ends, ends, color="C1", linewidth=1)
    axes.set(xlabel=f"true {QUANTITIES[column]}", ylabel="found")
    axes.locator_params(axis="x", nbins=5)
    axes.grid(alpha=0.3)
