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

from .registry import Architecture

HEADER_KEY = "stn_edge"
SCHEMA = 1


class CheckpointError(ValueError):
    """A file that is no checkpoint of ours, or not a whole one; the message is one sentence for the user."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what is needed to use it.

    Attributes:
        architecture: Name and options, enough to rebuild the network.
        labels: labels[i] names logit i.
        preprocess: How a picture becomes the network's input, as a JSON object (``stn_runtime.PreprocessSpec``).
        training: What it was trained on and how; free-form JSON.
        metrics: Measured figures by name.
        theta: What theta was on the training pictures, as a JSON object (``stn_runtime.ThetaStatistics``); None
            where that was not measured.
    """

    architecture: Architecture
    labels: tuple[str, ...]
    preprocess: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    theta: Mapping[str, Any] | None = None


def save_checkpoint(path: Path, model: nn.Module, checkpoint: Checkpoint) -> None:
    """Write the weights of ``model`` and ``checkpoint`` to ``path``; a crash leaves the old file whole."""
    header = {
        "schema": SCHEMA,
        "architecture": {"name": checkpoint.architecture.name, "options": checkpoint.architecture.complete()},
        "labels": list(checkpoint.labels),
        "preprocess": dict(checkpoint.preprocess),
        "training": dict(checkpoint.training),
        "metrics": dict(checkpoint.metrics),
        "theta": None if checkpoint.theta is None else dict(checkpoint.theta),
    }
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(save(weights, metadata={HEADER_KEY: json.dumps(header)}))
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


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
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: the checkpoint's description is damaged ({_first_line(error)})") from error
    found = {key: tuple(value.shape) for key, value in weights.items()}
    for key in [*expected, *found]:
        if expected.get(key) != found.get(key):
            raise CheckpointError(
                f"{path}: weights do not fit network '{checkpoint.architecture.name}' ('{key}' should be "
                f"{expected.get(key, 'absent')}, is {found.get(key, 'missing')})"
            )
    model = checkpoint.architecture.build()
    model.load_state_dict(weights)
    return model.eval(), checkpoint


def _described(header: dict[str, Any]) -> Checkpoint:
    """Return the description in a checkpoint's header.

    Raises:
        KeyError: A field is missing.
        TypeError: A field is of another kind.
    """
    labels = header["labels"]
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise TypeError("'labels' must be a list of texts")
    objects = {"architecture": header["architecture"], "options": header["architecture"]["options"]}
    objects |= {name: header[name] for name in ("preprocess", "training", "metrics")}
    theta = header.get("theta")  # older files have none
    objects |= {} if theta is None else {"theta": theta}
    for name, value in objects.items():
        if not isinstance(value, dict):
            raise TypeError(f"'{name}' must be an object")
    architecture = Architecture(header["architecture"]["name"], header["architecture"]["options"])
    classes = architecture.complete()["classes"]
    if classes != len(labels):
        raise TypeError(f"{len(labels)} labels for {classes} classes")
    preprocess, training, metrics = header["preprocess"], header["training"], header["metrics"]
    return Checkpoint(architecture, tuple(labels), preprocess, training, metrics, theta)


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
        raise CheckpointError(f"{path}: the checkpoint's description is damaged ({error})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the checkpoint's description is damaged (not a JSON object)")
    return header, weights
