"""A training run from a config to a folder: checkpoints, log, pictures; resumable at any moment."""

import csv
import io
import json
import logging
import math
import pickle
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import Generator
from tqdm import tqdm

from stn_models import Architecture, Checkpoint, save_checkpoint
from stn_runtime import InputError, PreprocessSpec
from stn_runtime.machine.filesystem import make_folder, whole_file, write_whole

from .config import TrainConfig
from .data_module import ImageData, rendered, seed_for, to_float
from .datasets import load_dataset
from .distortions import DIGIT_SIZE
from .module import ClassifierTraining
from .pictures import before_after, save_picture
from .theta_recording import record_theta

log = logging.getLogger(__name__)

LAST = "last.ckpt"
BEST = "model.safetensors"
_COLLAPSED_OUTSIDE = 0.95


@dataclass(frozen=True)
class Result:
    """Result of a run: the metrics of the best epoch and the file with its weights."""

    checkpoint: Path
    epoch: int
    metrics: Mapping[str, float]
    seconds: float


def fit(config: TrainConfig, folder: Path, resume: bool = False) -> Result:
    """Train a network and write its checkpoints, log and pictures to a folder.

    Args:
        config: Settings of the run.
        folder: Receives config.json, last.ckpt (every epoch, for resuming), model.safetensors (the best epoch),
            metrics.csv and pictures/.
        resume: Whether to go on from ``last.ckpt``; a run that broke off before its first epoch starts anew.

    Raises:
        InputError: The data cannot be used, the folder holds another run, or training diverged or collapsed.
    """
    if not resume and (folder / "config.json").exists():
        raise InputError(f"{folder}: holds a training run; go on with --resume {folder}, or give another --output")
    started = time.monotonic()
    spec = config.preprocess()
    data = load_data(config)
    lightning.seed_everything(seed_for(config.seed, 5) % 2**32, verbose=False)
    architecture = _architecture(config, spec, data)
    try:
        module = ClassifierTraining(architecture.build(), config, len(data.train.classes))
    except ValueError as error:
        raise InputError(str(error)) from error
    module.to(memory_format=torch.channels_last)  # a fifth faster on a CPU, and what tensor cores want
    make_folder(folder)
    if not resume:
        write_whole(folder / "config.json", config.to_json().encode())
    log.info(
        "%d training and %d validation images, %d classes", len(data.train), len(data.val), len(data.train.classes)
    )
    recorder = _Recorder(folder, architecture, spec, data.train.classes, config)
    last = folder / LAST
    trainer = _trainer(config, folder, recorder)
    _run(trainer, module, data, last if resume and last.exists() else None)
    if recorder.failure:
        raise InputError(recorder.failure)
    record_theta(folder / BEST, data, trainer.strategy.root_device)
    return Result(folder / BEST, recorder.best_epoch, recorder.best_metrics, time.monotonic() - started)


def load_data(config: TrainConfig) -> ImageData:
    """Return the training images, and the validation images as the network will see them.

    Raises:
        InputError: The data cannot be used.
    """
    spec = config.preprocess()
    source = replace(spec, height=DIGIT_SIZE, width=DIGIT_SIZE) if config.mixture() else spec
    train = load_dataset(config.data, "train", source, Path(config.data_dir), config.all_files)
    val = load_dataset(config.data, "val", source, Path(config.data_dir), config.all_files)
    return ImageData(train, rendered(val, config.mixture(), spec, seed_for(config.seed, 4)), config, spec)


def _run(trainer: lightning.Trainer, module: ClassifierTraining, data: ImageData, last: Path | None) -> None:
    """Train, from the checkpoint ``last`` where there is one.

    Raises:
        InputError: The checkpoint is damaged or not of this network.
        KeyboardInterrupt: A signal ended the run.
    """
    if last is not None:
        try:
            saved = torch.load(last, map_location="cpu", weights_only=False)["state_dict"]
            module.load_state_dict(saved)
        except (RuntimeError, KeyError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"{last}: cannot be resumed, it is damaged or the data have other classes now; train anew ({reason})"
            ) from error
    try:
        with warnings.catch_warnings():
            for message in (".*does not have many workers", ".*LeafSpec.*is deprecated"):  # nothing a user can mend
                warnings.filterwarnings("ignore", message)
            trainer.fit(module, data, ckpt_path=last, weights_only=False)
    except SystemExit as error:  # how Lightning ends on a signal
        raise KeyboardInterrupt from error
    if trainer.interrupted:
        raise KeyboardInterrupt


def _architecture(config: TrainConfig, spec: PreprocessSpec, data: ImageData) -> Architecture:
    """Return the network with what the data decide filled in."""
    sample = data.train.select(torch.randperm(len(data.train), generator=Generator().manual_seed(config.seed))[:2000])
    seen = data.distorted_and_augmented(to_float(sample.images), Generator().manual_seed(config.seed))
    from_data = {
        "image_size": spec.height,
        "channels": spec.channels,
        "classes": len(data.train.classes),
        "mean": tuple(round(float(value), 4) for value in seen.mean(dim=(0, 2, 3))),
        "std": tuple(max(round(float(value), 4), 0.05) for value in seen.std(dim=(0, 2, 3))),
    }
    asked = config.options.get("classes", from_data["classes"])
    if asked != from_data["classes"]:
        raise InputError(f"option 'classes' is {asked}, but the data have {from_data['classes']}; leave it out")
    named = Architecture(config.model)
    usable = {key: value for key, value in from_data.items() if named.accepts(key) and key not in config.options}
    return Architecture(config.model, {**usable, **config.options})


def _trainer(config: TrainConfig, folder: Path, recorder: "_Recorder") -> lightning.Trainer:
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32"
    callbacks: list[Callback] = [_Progress()]
    if config.patience:
        callbacks.append(EarlyStopping("val_accuracy", mode="max", patience=config.patience))
    callbacks.append(recorder)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    return lightning.Trainer(
        default_root_dir=folder,
        max_epochs=config.epochs,
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=config.clip or None,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )


class _Recorder(Callback):
    """After each epoch: a log line, a picture, the best weights, and a checkpoint to resume from."""

    def __init__(
        self,
        folder: Path,
        architecture: Architecture,
        spec: PreprocessSpec,
        classes: tuple[str, ...],
        config: TrainConfig,
    ) -> None:
        self.folder = folder
        self.architecture = architecture
        self.spec = spec
        self.classes = classes
        self.config = config
        self.best_epoch = -1
        self.best_metrics: dict[str, float] = {}
        self.rows: list[dict[str, float]] = []
        self.failure = ""

    def state_dict(self) -> dict[str, Any]:
        return {"best_epoch": self.best_epoch, "best_metrics": self.best_metrics, "rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_epoch, self.best_metrics = state_dict["best_epoch"], state_dict["best_metrics"]
        self.rows = state_dict["rows"]

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = trainer.current_epoch
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.failure = _diagnosis(metrics, epoch)
        if self.failure:
            trainer.should_stop = True
            return
        self.rows.append({"epoch": epoch, **metrics})
        _write_csv(self.folder / "metrics.csv", self.rows)
        model: torch.nn.Module = pl_module.model  # type: ignore[assignment]
        if metrics["val_accuracy"] > self.best_metrics.get("val_accuracy", -1):
            self.best_epoch, self.best_metrics = epoch, metrics
            described = Checkpoint(
                self.architecture,
                self.classes,
                vars(self.spec),
                {
                    "config": {**json.loads(self.config.to_json()), "data_dir": ""},
                    "epoch": epoch,
                },  # without the trainer's paths
                {"val_accuracy": 100 * metrics["val_accuracy"]},
            )
            save_checkpoint(self.folder / BEST, model, described)
        self._save_picture(trainer, model, epoch)
        with whole_file(self.folder / LAST) as partial:
            trainer.save_checkpoint(partial)

    def _save_picture(self, trainer: lightning.Trainer, model: torch.nn.Module, epoch: int) -> None:
        every = self.config.picture_every
        if not every or not (epoch % every == 0 or epoch == self.config.epochs - 1):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        model.eval()
        device = next(model.parameters()).device
        picture = before_after(model, to_float(data.val.images[:12]).to(device))
        model.train()
        if picture is not None:
            save_picture(self.folder / "pictures" / f"epoch_{epoch:03d}.png", picture)


class _Progress(Callback):
    """A bar for the running epoch and a line for each finished one, on stderr."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        total = int(trainer.num_training_batches)
        self.bar = tqdm(desc=f"epoch {trainer.current_epoch}", total=total, file=sys.stderr, leave=False, disable=None)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        if self.bar is not None:
            self.bar.update()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.bar is not None:
            self.bar.close()
        shown = {name: float(value) for name, value in trainer.callback_metrics.items()}
        log.info(
            "epoch %d  %s", trainer.current_epoch, "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        )


def _diagnosis(metrics: Mapping[str, float], epoch: int) -> str:
    """Return why training must stop after this epoch; an empty text if it need not."""
    if not math.isfinite(metrics["train_loss"]):
        return f"training diverged in epoch {epoch} (loss {metrics['train_loss']}); lower --lr, or keep --clip above 0"
    outside = metrics.get("theta_outside", 0.0)
    if not outside <= _COLLAPSED_OUTSIDE:
        return (
            f"the spatial transformer collapsed in epoch {epoch}: {outside:.0%} of its sampling points lie outside "
            "the image; lower --stn-lr-scale or --lr"
        )
    return ""


def _write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
