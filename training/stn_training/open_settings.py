"""Settings that a run leaves open, by the number of its training images."""

import logging
from dataclasses import replace

from stn_runtime import InputError

from .config import TrainConfig
from .initial_weights import is_checkpoint

log = logging.getLogger(__name__)

_MANY = 5_000
"""Training images from which on nothing needs to be adapted to their number."""

_EPOCHS, _BATCH = 20, 128
_MOST_EPOCHS, _LEAST_BATCH = 100, 8
_STEPS, _STEPS_FROM_WEIGHTS = 3_000, 1_000
"""Steps that a run on few images should have, from random weights and from others."""

_FROZEN_SHARE = 0.2


def settled(config: TrainConfig, images: int) -> TrainConfig:
    """Return a config without open settings, and say in one line what was chosen.

    Few images get smaller batches and more epochs, so that there are steps enough. With published weights and few
    images, all but fresh layers and localisation nets is frozen for a fifth of the epochs.

    Args:
        config: Settings of a run; ``epochs`` and ``batch_size`` of 0 and ``freeze`` of None are open.
        images: Number of training images.

    Raises:
        InputError: ``freeze`` has no weights to keep, or is longer than the run.
    """
    if config.freeze and not config.weights:
        raise InputError("freeze keeps a network as its weights are; name them with --weights, or leave it out")
    if config.freeze and config.epochs and config.freeze > config.epochs:
        raise InputError(f"freeze is {config.freeze}, more than the {config.epochs} epochs of the run")
    few = images < _MANY
    published = bool(config.weights) and not is_checkpoint(config.weights)
    chosen: dict[str, int] = {}
    batch = config.batch_size
    if not batch:
        batch = max(_LEAST_BATCH, min(_BATCH, 2 ** max(0, (images // 40).bit_length() - 1))) if few else _BATCH
        chosen["batch_size"] = batch
    epochs = config.epochs
    if not epochs:
        steps = _STEPS_FROM_WEIGHTS if config.weights else _STEPS
        wanted = -(-steps * batch // max(images, 1)) if few else _EPOCHS
        epochs = max(_EPOCHS, min(_MOST_EPOCHS, wanted))
        chosen["epochs"] = epochs
    if config.freeze is None:
        chosen["freeze"] = round(_FROZEN_SHARE * epochs) if published and few else 0
    result = replace(config, **chosen)  # type: ignore[arg-type]
    frozen = f", all but fresh layers frozen for {result.freeze} of them (--freeze)" if result.freeze else ""
    if chosen.keys() - {"freeze"} or frozen:
        log.info("%d training images: epochs %d, batch size %d%s", images, epochs, batch, frozen)
    return result
