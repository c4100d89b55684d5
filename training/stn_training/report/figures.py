"""The figures of a report that no other command draws: curves of the training, accuracy class by class."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stn_runtime.errors import printable

from ..pictures import save_figure
from .measurement import Findings, Run

_MOST_CLASSES = 60
_LONGEST_NAME = 24


def save_curves(run: Run, path: Path) -> None:
    """Draw loss, accuracy, and where there is a transformer what its theta does, over the epochs."""
    epochs = run.epochs
    has_theta = "theta_scale" in epochs and not np.isnan(epochs["theta_scale"]).all()
    figure = Figure(figsize=(13 if has_theta else 9, 3.4), layout="constrained")
    panels = figure.subplots(1, 3 if has_theta else 2)
    _draw(panels[0], run, {"train_loss": "training", "val_loss": "validation"})
    panels[0].set(title="loss", xlabel="epoch", ylim=(0, None))
    _draw(panels[1], run, {"train_accuracy": "training", "val_accuracy": "validation"}, 100)
    panels[1].set(title="accuracy, %", xlabel="epoch")
    if has_theta:
        _draw(panels[2], run, {"theta_scale": "scale", "theta_outside": "share outside the picture"})
        panels[2].set(title="theta", xlabel="epoch", ylim=(0, None))
    save_figure(figure, path)


def save_recalls(findings: Findings, path: Path) -> None:
    """Draw the share of right answers of each class, the worst first."""
    true = findings.report.confusion.sum(axis=1)
    recalls = np.diag(findings.report.confusion) / np.maximum(true, 1)
    order = [index for index in np.argsort(recalls, kind="stable") if true[index]][:_MOST_CLASSES]
    names = [printable(findings.report.classes[index], _LONGEST_NAME) for index in order]
    figure = Figure(figsize=(8, 0.9 + 0.22 * len(order)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(order)), 100 * recalls[order], color="#4c78a8")
    right = np.diag(findings.report.confusion)
    axes.bar_label(bars, [f"{right[index]} of {true[index]}" for index in order], fontsize=7, padding=2)
    axes.set_yticks(range(len(order)), names, fontsize=8, parse_math=False)
    axes.set(xlabel="right, %", xlim=(0, 112), xticks=range(0, 101, 20), ylim=(len(order) - 0.4, -0.6))
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _draw(axes: Axes, run: Run, columns: dict[str, str], factor: float = 1) -> None:
    for name, label in columns.items():
        if name in run.epochs:
            values = factor * run.epochs[name]
            axes.plot(run.epochs.get("epoch", np.arange(len(values))), values, label=label, linewidth=1.6)
            if np.isfinite(values).sum() == 1:
                axes.lines[-1].set_marker("o")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
