"""Schedules of the learning rate: its share of the highest rate, step by step."""

import math
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from ..pictures import save_figure

SCHEDULES = ("onecycle", "step", "constant")

_WARM_UP = 0.2
_FIRST, _LAST = 1 / 25, 1e-5
"""Shares of the highest rate at the two ends of a cycle, as in ``torch.optim.lr_scheduler.OneCycleLR``."""


def rate_share(schedule: str, steps: int) -> Callable[[int], float]:
    """Return a function from the number of a step to the share of the highest learning rate that it takes.

    ``onecycle`` rises over the first fifth and falls to nothing, both along a cosine (Smith and Topin 2019); ``step``
    is a tenth from a half on and a hundredth from three quarters on; ``constant`` stays at 1.

    Args:
        schedule: A name in SCHEDULES.
        steps: Steps of the whole run.
    """
    if schedule == "constant":
        return lambda step: 1.0
    if schedule == "step":
        return lambda step: 0.1 ** ((step >= steps // 2) + (step >= steps * 3 // 4))
    peak = _WARM_UP * steps

    def onecycle(step: int) -> float:
        if step < peak:
            return _between(_FIRST, 1, step / peak)
        return _between(1, _LAST, min((step - peak) / max(steps - 1 - peak, 1), 1))

    return onecycle


def _between(start: float, end: float, share: float) -> float:
    """Return the point at ``share`` of the way from ``start`` to ``end`` along a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def draw_schedule(schedule: str, steps: int, epochs: int, lr: float, localization_share: float, path: Path) -> None:
    """Draw the learning rate against epochs, and that of the localisation nets where it is another.

    Args:
        schedule: A name in SCHEDULES.
        steps: Steps of the whole run.
        epochs: Epochs of the whole run.
        lr: Highest rate.
        localization_share: Rate of the localisation nets as a share of it; 1 where there are none.
        path: The PNG to write.
    """
    share = rate_share(schedule, steps)
    chosen = sorted({round(number * (steps - 1) / 499) for number in range(500)})
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    lines = {"learning rate": 1.0}
    if localization_share != 1:
        lines["of localisation nets"] = localization_share
    for label, factor in lines.items():
        axes.plot(
            [step * epochs / steps for step in chosen], [lr * factor * share(step) for step in chosen], label=label
        )
    axes.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
