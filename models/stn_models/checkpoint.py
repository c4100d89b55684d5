"""Checkpoints for exchange: weights as safetensors, everything else as JSON in the same file's header.

Loading one never unpickles, so a checkpoint from a stranger cannot run code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from stn_runtime.errors import printable
from stn_runtime.machine.filesystem import write_whole
from stn_runtime.model.schema import FieldError, read_as

from .registry import Architecture

HEADER_KEY = "stn_edge"
SCHEMA = 1

_REMEDY = "copy the file again, or train anew"


class CheckpointError(ValueError):
    """A file that is no checkpoint of stn-edge, or a damaged one; the message is one sentence for the user."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what is needed to use it.

    Attributes:
        architecture: Name and options, enough to rebuild the network.
        labels: labels[i] names logit i.
        preprocess: How a picture becomes the network's input, as a JSON object (``stn_runtime.PreprocessSpec``).
        training: Data and settings of the training; free-form JSON.
        metrics: Measured figures by name.
        theta: Statistics of theta on the training pictures, as a JSON object (``stn_runtime.ThetaStatistics``);
            None where they were not measured.
        reject: The label that means none of the others; None where there is none.
        threshold: Confidence from 0 to 1, found on validation data, below which a picture gets no label; None where it
            was not looked for.
    """

    architecture: Architecture
    labels: tuple[str, ...]
    preprocess: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    theta: Mapping[str, Any] | None = None
    reject: str | None = None
    threshold: float | None = None


def save_checkpoint(path: Path, model: nn.Module, checkpoint: Checkpoint) -> None:
    """Write the weights of ``model`` and ``checkpoint`` to ``path``; a crash leaves the earlier file whole.

    Raises:
        OSError: The file cannot be written.
    """
    header = {
        "schema": SCHEMA,
        "architecture": {"name": checkpoint.architecture.name, "options": checkpoint.architecture.complete()},
        "labels": list(checkpoint.labels),
        "preprocess": dict(checkpoint.preprocess),
        "training": dict(checkpoint.training),
        "metrics": dict(checkpoint.metrics),
        "theta": None if checkpoint.theta is None else dict(checkpoint.theta),
        "reject": checkpoint.reject,
        "threshold": checkpoint.threshold,
    }
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_whole(path, save(weights, metadata={HEADER_KEY: json.dumps(header)}))


def load_checkpoint(path: Path) -> tuple[nn.Module, Checkpoint]:
    """Return the network, in evaluation mode on the CPU, and its description.

    Raises:
        CheckpointError: The file is missing, foreign, damaged, or from a newer version.
    """
    header, weights = _read(path)
    if header.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{path}: checkpoint schema {header.get('schema')}, this version reads {SCHEMA}; update stn-edge"
        )
    try:
        checkpoint = _described(header)
        with torch.device("meta"):  # a wrong size must not take memory before it is noticed
            expected = {key: tuple(value.shape) for key, value in checkpoint.architecture.build().state_dict().items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: the checkpoint's description is damaged ({_first_line(error)}); {_REMEDY}"
        ) from error
    stored = {key: tuple(value.shape) for key, value in weights.items()}
    for key in [*expected, *stored]:
        if expected.get(key) != stored.get(key):
            raise CheckpointError(
                f"{path}: weights do not fit network '{checkpoint.architecture.name}' ('{key}' should be "
                f"{expected.get(key, 'absent')}, is {stored.get(key, 'missing')})"
            )
    model = checkpoint.architecture.build()
    model.load_state_dict(weights)
    return model.eval(), checkpoint


def _described(header: dict[str, Any]) -> Checkpoint:
    """Return the description in a checkpoint's header.

    Raises:
        FieldError: A field is missing or of another kind.
        ValueError: The network has no such option, or another number of classes.
    """
    checkpoint = read_as(Checkpoint, header)
    # The dataclasses have defaults for these; without its options a network would be rebuilt as another one.
    written = {"architecture.options": header["architecture"], "training": header, "metrics": header}
    for field_path, parent in written.items():
        if field_path.rpartition(".")[2] not in parent:
            raise FieldError(field_path, "is missing")
    classes = checkpoint.architecture.complete()["classes"]
    if classes != len(checkpoint.labels):
        raise FieldError("labels", f"must have {classes} entries, one a class, got {len(checkpoint.labels)}")
    if checkpoint.reject is not None and checkpoint.reject not in checkpoint.labels:
        raise FieldError("reject", f"is '{printable(checkpoint.reject)}', which is none of the labels")
    if checkpoint.threshold is not None and not 0 <= checkpoint.threshold <= 1:  # NaN neither
        raise FieldError("threshold", f"is {checkpoint.threshold:g}, expected 0 to 1")
    return checkpoint


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path}: {what}; give a .safetensors file written by 'stn train'")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error
    if HEADER_KEY not in metadata:
        raise CheckpointError(f"{path}: a safetensors file, but not from 'stn train' (no '{HEADER_KEY}' in its header)")
    try:
        header = json.loads(metadata[HEADER_KEY])
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the checkpoint's description is damaged ({error}); {_REMEDY}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the checkpoint's description is damaged (not a JSON object); {_REMEDY}")
    return header, weights
