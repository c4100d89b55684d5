"""Checkpoints for exchange: weights as safetensors, everything else as JSON in the same file's header.

Loading one never unpickles, so a checkpoint from a stranger cannot run code.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
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
        end: The label behind the last character, of a network that spells texts with logits (N, D, K); None where a
            picture has one label.
    """

    architecture: Architecture
    labels: tuple[str, ...]
    preprocess: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    theta: Mapping[str, Any] | None = None
    reject: str | None = None
    threshold: float | None = None
    end: str | None = None


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
        "end": checkpoint.end,
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
            shapes = checkpoint.architecture.build().eval()
        _check_input(shapes, checkpoint)
        expected = {key: tuple(value.shape) for key, value in shapes.state_dict().items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: the checkpoint's description is damaged ({_first_line(error)}); {_REMEDY}"
        ) from error
    stored = {key: tuple(value.shape) for key, value in weights.items()}
    for key in [*expected, *stored]:
        if expected.get(key) != stored.get(key):
            raise CheckpointError(
                f"{path}: weights do not fit network '{checkpoint.architecture.name}' ('{key}' should be "
                f"{expected.get(key, 'absent')}, is {stored.get(key, 'missing')}); they are those of another network: "
                "take the file as 'stn train' wrote it"
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
    if len(set(checkpoint.labels)) < classes:
        raise FieldError("labels", "holds a label twice")
    if checkpoint.reject is not None and checkpoint.reject not in checkpoint.labels:
        raise FieldError("reject", f"is '{printable(checkpoint.reject)}', which is none of the labels")
    if checkpoint.end is not None and (checkpoint.end not in checkpoint.labels or checkpoint.reject is not None):
        raise FieldError("end", f"is '{printable(checkpoint.end)}', which is none of the labels, or is beside a reject")
    if checkpoint.threshold is not None and not 0 <= checkpoint.threshold <= 1:  # NaN neither
        raise FieldError("threshold", f"is {checkpoint.threshold:g}, expected 0 to 1")
    return checkpoint


def _check_input(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Check that a network on the meta device takes pictures of the size that its preprocessing makes.

    Raises:
        FieldError: It does not.
    """
    sides = [checkpoint.preprocess.get(name) for name in ("channels", "height", "width")]
    sizes = [side for side in sides if isinstance(side, int) and side > 0]
    if len(sizes) < len(sides):  # for the reader of the preprocessing to refuse
        return
    try:
        with torch.inference_mode():
            network(torch.empty(1, *sizes, device="meta"))
    except RuntimeError as error:
        channels, height, width = sizes
        name = checkpoint.architecture.name
        fault = f"makes pictures of {width} x {height} x {channels}, which network '{name}' cannot take"
        raise FieldError("preprocess", fault) from error


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
        raise CheckpointError(f"{path}: {_fault_of(path, error)}") from error
    if HEADER_KEY not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not from 'stn train' (no '{HEADER_KEY}' in its header); give one that "
            "is, or load its network in Python and call stn_export.export_onnx"
        )
    try:
        header = json.loads(metadata[HEADER_KEY])
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the checkpoint's description is damaged ({error}); {_REMEDY}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the checkpoint's description is damaged (not a JSON object); {_REMEDY}")
    return header, weights


# A zip, or a pickle of protocol 2 to 5 and its first opcode. A safetensors file begins with the length of its header,
# which may look like the protocol but is followed by a zero.
_PICKLED = re.compile(rb"PK\x03\x04|\x80[\x02-\x05][^\x00]", re.DOTALL)


def _fault_of(path: Path, error: Exception) -> str:
    """Return what is wrong with a file that is no safetensors file, and what to do."""
    if path.suffix == ".onnx":
        return "an .onnx file is no checkpoint; give the .safetensors file that it was exported from"
    with suppress(OSError), path.open("rb") as file:
        if _PICKLED.match(file.read(4)):
            return (
                "a file of torch.save, which may run code when it is loaded; give the .safetensors file that "
                "'stn train' wrote, or load it in Python and call stn_export.export_onnx"
            )
    return f"not a whole safetensors file ({error}); {_REMEDY}"
