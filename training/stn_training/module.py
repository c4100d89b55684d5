"""The training step: loss, optimiser with a lower rate for localisation nets, schedule, and the theta monitor."""

from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stn_models import (
    GridGenerator,
    SpatialTransformer,
    TransformCall,
    localization_parameters,
    recorded_transforms,
)

from .config import TrainConfig
from .data.data_module import Batch, seed_for
from .geometry import placed_corners
from .optimisation.schedule import rate_share

_BODY_SHARE = 0.1
"""Rate of a network that was frozen, once it is not, as a share of the rate of its fresh layers."""

_VOTE_SPREAD = 0.1
"""Of the votes' distributions, in half sides of the box."""


class ClassifierTraining(lightning.LightningModule):
    """Trains a classifier.

    Args:
        model: Maps images (N, C, H, W) in [0, 1] to logits (N, K), or to spell texts, (N, D, K).
        config: Settings of the run.
        classes: K.
        class_weights: Weight of each class in the loss, (K,); by default all weigh the same.
        localization_share: Factor on the rate of the localisation nets, less than 1 after a collapse.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        classes: int,
        class_weights: Tensor | None = None,
        localization_share: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.classes = classes
        self.localization_share = localization_share
        self.averaged = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)  # type: ignore[no-untyped-call]
            if config.ema
            else None
        )
        if self.averaged is not None:
            self.averaged.requires_grad_(False)  # several devices wait for every gradient
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._trained = _Sums()
        self._validated = _Sums()

    @property
    def kept_model(self) -> nn.Module:
        """The network that is validated and kept: with ``ema`` the averaged one."""
        return self.averaged.module if self.averaged is not None else self.model

    def on_train_epoch_start(self) -> None:
        """Keep the statistics of frozen layers as they are, until they are thawed."""
        if self.config.freeze:
            for module in frozen_modules(self.model):
                module.training = self.current_epoch >= self.config.freeze  # itself alone: what is in it may be fresh

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout for this batch, so that a resumed run goes on as an unbroken one would."""
        seed = self._seed(batch_idx)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a millisecond where there is no GPU
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of one batch."""
        images, labels, placements = batch
        if self.config.mixup:
            generator = Generator().manual_seed(self._seed(batch_index) + 1)
            images, targets = mixed_up(images, labels, self.classes, self.config.mixup, generator)
        else:
            targets = labels
        if self.config.theta_weight:
            with recorded_transforms(self.model) as calls:
                logits = self.model(images)
            with torch.autocast(images.device.type, enabled=False):  # eight bits would round places by visible amounts
                extra = self.config.theta_weight * placement_loss(calls[0], placements) if calls else 0.0
        else:
            logits, extra = self.model(images), 0.0
        loss = functional.cross_entropy(
            classes_second(logits), targets, weight=self.class_weights, label_smoothing=self.config.label_smoothing
        )
        loss = loss + extra
        self._trained.add(loss.detach(), logits.detach(), labels)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm; Lightning's own refuses fused optimisers, also where nothing is scaled."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ANN401
        """Average the weights."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Measure one batch."""
        images, labels, _ = batch
        with recorded_transforms(self.kept_model) as calls:
            logits = self.kept_model(images)
        loss = functional.cross_entropy(classes_second(logits), labels)
        with torch.autocast(images.device.type, enabled=False):
            self._validated.add(loss, logits, labels, theta_statistics(calls) if calls else {})

    def epoch_metrics(self) -> dict[str, float]:
        """Return the means of the epoch so far over all devices, and begin the next; every rank must call it."""
        trained, validated = self._trained.take(self), self._validated.take(self)
        metrics = {f"train_{name}": value for name, value in trained.items()}
        return metrics | {name if "theta" in name else f"val_{name}": value for name, value in validated.items()}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and its schedule."""
        config = self.config
        groups = parameter_groups(self.model, config)
        fused = config.precision != "16-mixed"  # there the gradients are clipped between unscaling and step
        optimizer: torch.optim.Optimizer
        if config.optimizer == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=fused)
        else:
            optimizer = torch.optim.SGD(
                groups,
                lr=config.lr,
                momentum=config.momentum,
                nesterov=config.momentum > 0,
                weight_decay=config.weight_decay,
                fused=fused,
            )
        steps = int(self.trainer.estimated_stepping_batches)
        share = rate_share(config.schedule, steps)
        thawed = steps * (config.freeze or 0) // max(config.epochs, 1)
        localization_share = self.localization_share
        shares = {
            "fresh": share,
            "body": lambda step: _BODY_SHARE * share(step) if step >= thawed else 0.0,
            "localization": lambda step: localization_share * share(step),
        }
        scheduler = LambdaLR(optimizer, [shares[group["name"]] for group in groups])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _seed(self, batch_index: int) -> int:
        return seed_for(self.config.seed, self.current_epoch, batch_index, 3, self.global_rank)


class _Sums:
    """Sums over the images of an epoch, kept on the device."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.totals: Tensor | None = None

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, others: dict[str, Tensor] | None = None) -> None:
        """Add the means of a batch."""
        count = len(labels)
        correct = (logits.argmax(dim=-1) == labels).view(count, -1).all(dim=1).sum()
        values = [value.float() * count for value in (loss, *(others or {}).values())]
        new = torch.stack([correct.float(), *values, correct.new_tensor(count, dtype=torch.float)]).double()
        self.names = ["accuracy", "loss", *(others or {})]
        self.totals = new if self.totals is None else self.totals + new

    def take(self, module: lightning.LightningModule) -> dict[str, float]:
        """Return the means over all devices, and forget them."""
        if self.totals is None:
            return {}
        *sums, count = module.trainer.strategy.reduce(self.totals, reduce_op="sum").tolist()
        self.totals = None
        return {name: value / count for name, value in zip(self.names, sums, strict=True)}


def classes_second(logits: Tensor) -> Tensor:
    """Return logits (N, K), or (N, D, K) as (N, K, D), the order in which the loss takes them."""
    return logits.movedim(-1, 1)


def mixed_up(images: Tensor, labels: Tensor, classes: int, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return images each mixed with another of the batch, and the shares of their classes (Zhang et al. 2018, MixUp).

    Args:
        images: (N, C, H, W).
        labels: (N,).
        classes: K.
        alpha: Of the beta distribution from which one share is drawn for the batch.
        generator: Decides share and partners, on the CPU.

    Returns:
        Images (N, C, H, W) and targets (N, K) that add up to 1.
    """
    seed = int(torch.randint(2**31, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # distributions draw from it
        share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    targets = functional.one_hot(labels, classes).to(images.dtype)
    return torch.lerp(images[partner], images, share), torch.lerp(targets[partner], targets, share)


def placement_loss(call: TransformCall, placements: Tensor) -> Tensor:
    """Return how far the sampling grid's corners lie from where the digit's box was put, relative to the box.

    Where theta was chosen from votes, it is the negative log-likelihood of the placement under their mixture, each
    vote a Laplace distribution: it trains the scores as well, and a vote the more, the likelier it is the right one
    (Bishop 1994, "Mixture Density Networks").

    Args:
        call: Use of a transformer on images (N, C, H, W).
        placements: (N, 2, 3) as in ``Distorted``; images whose placement is unknown count nothing.

    Returns:
        Mean Huber distance of the corners, in half sides of the box, or their mean likelihood; a scalar.
    """
    known = ~placements[:, 0, 0].isnan()
    wanted = placed_corners(torch.where(known[:, None, None], placements, 0.0))
    if call.votes is None:
        each = _distance(call.transformer.grid, call.theta.float()[:, None], wanted)[:, 0]
    else:
        scores, votes = (part.float() for part in call.votes)
        distance = _distance(call.transformer.grid, votes.mT, wanted)
        each = -torch.logsumexp(scores.log_softmax(dim=1) - distance / _VOTE_SPREAD, dim=1)
    loss: Tensor = (each * known).sum() / known.sum().clamp(min=1)
    return loss


def _distance(grid: GridGenerator, thetas: Tensor, wanted: Tensor) -> Tensor:
    """Return how far the corners of thetas (N, K, P) lie from those that are wanted (N, 4, 2), (N, K)."""
    count, votes, _ = thetas.shape
    outline = grid.outline(thetas.flatten(0, 1))[:, :: grid.outline_points_per_side].view(count, votes, 4, 2)
    side = torch.linalg.vector_norm(wanted[:, 1] - wanted[:, 0], dim=-1).clamp(min=0.05) / 2
    apart = functional.smooth_l1_loss(outline, wanted[:, None].expand_as(outline), reduction="none", beta=0.02)
    distance: Tensor = apart.mean(dim=(2, 3)) / side[:, None]
    return distance


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return the optimiser's groups by name: ``fresh``, with ``freeze`` also ``body``, and ``localization``."""
    localization = list(localization_parameters(model))
    body = [parameter for module in frozen_modules(model) for parameter in module.parameters(recurse=False)]
    body = body if config.freeze else []
    known = {id(parameter) for parameter in (*localization, *body)}
    fresh = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = {"fresh": fresh, "body": body, "localization": localization}
    rates = {"localization": config.lr * config.stn_lr_scale}
    return [
        {"name": name, "params": parameters, "lr": rates.get(name, config.lr)}
        for name, parameters in groups.items()
        if parameters or name == "fresh"
    ]


def frozen_modules(model: nn.Module) -> list[nn.Module]:
    """Return what ``freeze`` is for: each module but the transformers and the last layer that has weights."""
    ours = {module for part in model.modules() if isinstance(part, SpatialTransformer) for module in part.modules()}
    weighted = [module for module in model.modules() if list(module.parameters(recurse=False))]
    return [module for module in weighted[:-1] if module not in ours]


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
