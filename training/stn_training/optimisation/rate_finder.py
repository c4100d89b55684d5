"""The range test: which highest learning rate a network can take on its data (Smith 2017, section 3.3)."""

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from matplotlib.figure import Figure

from ..pictures import save_figure

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 200
_SMOOTHING = 0.9
_DIVERGED = 4.0  # times the lowest loss
_WARM_UP = 10  # steps before a loss counts as the lowest


class RangeTest(lightning.Callback):
    """Raises the rate from step to step by a factor, and keeps the loss; ends training when it has grown too far.

    Args:
        lr: Highest rate of the settings; each group of parameters keeps its share of the rate.

    Attributes:
        rates: Rate of each step.
        losses: Loss of each step, smoothed exponentially.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._average = 0.0

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Set the rate of this step."""
        rate = LOWEST * (HIGHEST / LOWEST) ** (len(self.rates) / (STEPS - 1))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate * group["initial_lr"] / self.lr
        self.rates.append(rate)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: object, outputs: Any, *_: object) -> None:  # noqa: ANN401
        """Keep the loss."""
        self._average = _SMOOTHING * self._average + (1 - _SMOOTHING) * float(outputs["loss"])
        self.losses.append(self._average / (1 - _SMOOTHING ** len(self.rates)))
        grown = len(self.losses) > _WARM_UP and self.losses[-1] > _DIVERGED * min(self.losses)
        if not math.isfinite(self.losses[-1]) or grown or len(self.rates) == STEPS:
            trainer.should_stop = True

    def suggestion(self) -> float:
        """Return a tenth of the rate at which the loss was lowest, to one digit."""
        finite = [loss if math.isfinite(loss) else math.inf for loss in self.losses]
        rate = self.rates[finite.index(min(finite))] / 10
        return float(f"{rate:.0e}")

    def draw(self, path: Path) -> None:
        """Write the plot of loss against rate, the suggestion marked."""
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        shown = [(rate, loss) for rate, loss in zip(self.rates, self.losses, strict=True) if math.isfinite(loss)]
        axes.plot(*zip(*shown, strict=True))
        suggestion = self.suggestion()
        axes.axvline(suggestion, color="C1", label=f"suggested highest rate: {suggestion:g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        lowest = min(loss for _, loss in shown)
        axes.set_ylim(lowest - 0.1 * abs(lowest), 1.5 * shown[0][1])
        axes.grid(alpha=0.3)
        axes.legend()
        save_figure(figure, path)
