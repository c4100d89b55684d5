"""The training step: loss, optimiser with a lower rate for localisation nets, schedule, and the theta monitor."""

from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR
from torchmetrics.classification import MulticlassAccuracy

from stn_models import TransformCall, localization_parameters, recorded_transforms

from .config import TrainConfig
from .data_module import Batch, seed_for


class ClassifierTraining(lightning.LightningModule):
    """Trains a classifier.

    Args:
        model: Maps images (N, C, H, W) in [0, 1] to logits (N, K).
        config: Settings of the run.
        classes: K.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, classes: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(classes, average="micro")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout for this batch, so that a resumed run goes on as an unbroken one would."""
        torch.manual_seed(seed_for(self.config.seed, self.current_epoch, batch_idx, 3))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of one batch."""
        images, labels = batch
        logits = self.model(images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        self.train_accuracy(logits, labels)
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=len(labels))
        self.log("train_accuracy", self.train_accuracy, on_epoch=True, on_step=False, batch_size=len(labels))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Measure one batch."""
        images, labels = batch
        with recorded_transforms(self.model) as calls:
            logits = self.model(images)
        self.val_accuracy(logits, labels)
        self.log("val_loss", functional.cross_entropy(logits, labels), batch_size=len(labels))
        self.log("val_accuracy", self.val_accuracy, batch_size=len(labels))
        if calls:
            self.log_dict(theta_statistics(calls), batch_size=len(labels))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its schedule."""
        config = self.config
        groups = parameter_groups(self.model, config)
        optimizer: torch.optim.Optimizer
        if config.optimizer == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
        else:
            optimizer = torch.optim.SGD(
                groups, lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
            )
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler: LRScheduler
        if config.schedule == "onecycle":
            scheduler = OneCycleLR(
                optimizer, [group["lr"] for group in groups], total_steps=steps, pct_start=_warm_up(steps)
            )
        else:
            scheduler = MultiStepLR(optimizer, [steps // 2, steps * 3 // 4])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _warm_up(steps: int) -> float:
    """Return the share of a run in which the rate rises; PyTorch divides by zero when that is exactly one step."""
    return 0.2 if steps != 5 else 0.25


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return the optimiser's groups: the localisation nets at their own rate, and the rest."""
    localization = list(localization_parameters(model))
    known = {id(parameter) for parameter in localization}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": config.lr}]
    if localization:
        groups.append({"params": localization, "lr": config.lr * config.stn_lr_scale})
    return groups


def theta_statistics(calls: list[TransformCall]) -> dict[str, Tensor]:
    """Return what the transformers do to their inputs, averaged over batch and transformers.

    ``theta_determinant`` is the area of the sampling grid as a share of the input's, negative when mirrored;
    ``theta_scale`` the root of its size; ``theta_outside`` the share of sampling points outside the input.
    """
    determinants, outside = [], []
    for call in calls:
        grid = call.transformer.grid
        determinants.append(signed_area(grid.outline(call.theta.float())) / 4)
        outside.append((grid(call.theta.float()).abs() > 1).any(dim=-1).float().mean(dim=(1, 2)))
    determinant = torch.cat(determinants)
    return {
        "theta_determinant": determinant.mean(),
        "theta_scale": determinant.abs().sqrt().mean(),
        "theta_outside": torch.cat(outside).mean(),
    }


def signed_area(outline: Tensor) -> Tensor:
    """Return the area (N,) inside closed outlines (N, M, 2); positive when they run clockwise with y down."""
    following = outline.roll(-1, dims=1)
    return (outline[..., 0] * following[..., 1] - following[..., 0] * outline[..., 1]).sum(dim=1) / 2
