"""What a run leaves behind after each epoch: log line, CSV, picture, the best weights, a checkpoint to resume from."""

import csv
import io
import json
import logging
import math
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from stn_models import Architecture, Checkpoint, save_checkpoint
from stn_runtime import InputError, PreprocessSpec
from stn_runtime.machine.filesystem import whole_file, write_whole

from .config import TrainConfig
from .data.data_module import ImageData, to_float
from .data.labelled_images import LabelledImages
from .module import ClassifierTraining
from .pictures import before_after, save_picture

log = logging.getLogger(__name__)

LAST = "last.ckpt"
BEST = "model.safetensors"
METRICS = "metrics.csv"
SCHEDULE = "schedule.png"
BOARD = "tensorboard"
_COLLAPSED_OUTSIDE = 0.95


class Recorder(Callback):
    """Records the run in its folder, ends it when it fails or gets no better, and shows its progress on stderr."""

    def __init__(
        self,
        folder: Path,
        architecture: Architecture,
        spec: PreprocessSpec,
        data: LabelledImages,
        config: TrainConfig,
    ) -> None:
        self.folder = folder
        self.architecture = architecture
        self.spec = spec
        self.classes, self.reject, self.end, self.images = data.classes, data.reject, data.end, len(data)
        self.config = config
        self.best_epoch = -1
        self.best_metrics: dict[str, float] = {}
        self.rows: list[dict[str, float]] = []
        self.failure = ""
        self.bar: tqdm[Any] | None = None
        self.is_heard = True  # the first device, which alone writes
        self.board: Any = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"best_epoch": self.best_epoch, "best_metrics": self.best_metrics, "rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what an earlier part of the run recorded."""
        self.best_epoch, self.best_metrics = state_dict["best_epoch"], state_dict["best_metrics"]
        self.rows = state_dict["rows"]

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin a bar for the epoch."""
        self.is_heard = trainer.is_global_zero
        if trainer.is_global_zero:
            total = int(trainer.num_training_batches)
            text = f"epoch {trainer.current_epoch}"
            self.bar = tqdm(desc=text, total=total, file=sys.stderr, leave=False, disable=None)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write what the epoch gave, on the first device; see whether to go on, on all."""
        module: ClassifierTraining = pl_module  # type: ignore[assignment]
        if self.bar is not None:
            self.bar.close()
        epoch, metrics = trainer.current_epoch, module.epoch_metrics()
        self.failure = diagnosis(metrics, epoch)
        if self.failure:
            trainer.should_stop = True
            return
        self.rows.append({"epoch": epoch, **metrics})
        better = not self.best_metrics or _rank(metrics) > _rank(self.best_metrics)
        if better:
            self.best_epoch, self.best_metrics = epoch, metrics
        gained = max(self.rows, key=lambda row: row["val_accuracy"])["epoch"]
        if self.config.patience and epoch - gained >= self.config.patience:
            trainer.should_stop = True
        try:
            self._save(trainer, module, epoch, better)
        except OSError as error:
            raise InputError(
                f"{self.folder}: epoch {epoch} cannot be saved ({error.strerror or error}); what was saved before is "
                f"whole: make room, then go on with --resume {self.folder}"
            ) from error

    def _save(self, trainer: lightning.Trainer, module: ClassifierTraining, epoch: int, better: bool) -> None:
        """Write the epoch's log, picture and checkpoints, on the first device.

        Raises:
            OSError: Something cannot be written.
        """
        if trainer.is_global_zero:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in self.rows[-1].items() if name != "epoch")
            log.info("epoch %d  %s", epoch, shown)
            write_csv(self.folder / METRICS, self.rows)
            if better:
                self._save_best(module)
            self.board = self.board or _board(self.folder / BOARD, epoch)
            self._save_picture(trainer, module, epoch)
            if self.board is not None:
                for name, value in self.rows[-1].items():
                    if name != "epoch":
                        self.board.add_scalar(name.replace("_", "/", 1), value, epoch)
                self.board.flush()
        # Every device must call it, the first one writes.
        with whole_file(self.folder / LAST) if trainer.is_global_zero else nullcontext(self.folder / LAST) as partial:
            trainer.save_checkpoint(partial)

    def _save_best(self, module: ClassifierTraining) -> None:
        config = json.loads(self.config.to_json())
        config |= {"data_dir": "", "typefaces": "", "backgrounds": "", "weights": Path(self.config.weights).name}
        described = Checkpoint(
            self.architecture,
            self.classes,
            vars(self.spec),
            {"config": config, "epoch": self.best_epoch, "images": self.images},  # without the trainer's paths
            {"val_accuracy": 100 * self.best_metrics["val_accuracy"]},
            reject=None if self.reject is None else self.classes[self.reject],
            end=None if self.end is None else self.classes[self.end],
        )
        save_checkpoint(self.folder / BEST, module.kept_model, described)

    def _save_picture(self, trainer: lightning.Trainer, module: ClassifierTraining, epoch: int) -> None:
        every = self.config.picture_every
        if not every or not (epoch % every == 0 or epoch == self.config.epochs - 1):
            return
        data: ImageData = trainer.datamodule  # type: ignore[attr-defined]
        model = module.kept_model
        was_training = model.training
        model.eval()
        device = next(model.parameters()).device
        shown = torch.linspace(0, len(data.val) - 1, 12).long()
        picture = before_after(model, to_float(data.val.images[shown]).to(device))
        model.train(was_training)
        if picture is not None:
            save_picture(self.folder / "pictures" / f"epoch_{epoch:03d}.png", picture)
            if self.board is not None:
                self.board.add_image("before and after", picture, epoch, dataformats="HWC")

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Close TensorBoard's log."""
        if self.board is not None:
            self.board.close()
            self.board = None


def _board(folder: Path, epoch: int) -> Any:  # noqa: ANN401  (a package that may be missing)
    """Return a writer of TensorBoard's log from an epoch on; None where the package tensorboard is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=epoch)


def _rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """Return what the best epoch has most of: accuracy, and of equal accuracies the lower loss."""
    return metrics["val_accuracy"], -metrics["val_loss"]


def diagnosis(metrics: Mapping[str, float], epoch: int) -> str:
    """Return why training cannot go on after this epoch; an empty text if it can."""
    if not math.isfinite(metrics["train_loss"]):
        return f"training diverged in epoch {epoch} (loss {metrics['train_loss']}); lower --lr, or keep --clip above 0"
    outside = metrics.get("theta_outside", 0.0)
    if not outside <= _COLLAPSED_OUTSIDE:
        return (
            f"the spatial transformer collapsed in epoch {epoch}: {outside:.0%} of its sampling points lie outside "
            "the image; lower --stn-lr-scale or --lr"
        )
    return ""


def write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    """Write rows with the same keys as a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
