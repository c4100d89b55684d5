"""Weights that a new run starts from: those of a released model for fine-tuning, or of one's own earlier run."""

from pathlib import Path
from typing import Any

from torch import nn

from stn_models import Checkpoint, CheckpointError, load_checkpoint
from stn_runtime import InputError


def network_of(weights: str) -> dict[str, Any]:
    """Return the options that a checkpoint decides: its network, without its classes, and how pictures become square.

    Raises:
        InputError: The file is no checkpoint.
    """
    _, described = _loaded(weights)
    options = {key: value for key, value in described.architecture.complete().items() if key != "classes"}
    return {"model": described.architecture.name, "options": options, "fit": described.preprocess["fit"]}


def take_weights(model: nn.Module, weights: str) -> tuple[str, ...]:
    """Copy the weights of a checkpoint into a network; return the names of those that other classes leave fresh.

    Raises:
        InputError: The file is no checkpoint, or one of another network.
    """
    source, described = _loaded(weights)
    stored, own = source.state_dict(), model.state_dict()
    count = len(described.labels)
    fresh = [name for name, value in own.items() if name in stored and stored[name].shape != value.shape]
    for name in [*own.keys() ^ stored.keys(), *fresh]:
        is_last_layer = name in fresh and stored[name].shape[1:] == own[name].shape[1:] and len(stored[name]) == count
        if not is_last_layer:
            raise InputError(
                f"{weights}: holds network '{described.architecture.name}' with other layers ('{name}'); "
                "leave out --model and --options, or take another checkpoint"
            )
    model.load_state_dict({**own, **{name: value for name, value in stored.items() if name not in fresh}})
    return tuple(fresh)


def _loaded(weights: str) -> tuple[nn.Module, Checkpoint]:
    try:
        return load_checkpoint(Path(weights))
    except CheckpointError as error:
        raise InputError(str(error)) from error
