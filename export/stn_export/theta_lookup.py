"""What the manifest says of theta: from the checkpoint, or measured on pictures where that knows nothing."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stn_models import Checkpoint, CheckpointError, load_checkpoint
from stn_runtime import InputError, Manifest, ModelContractError
from stn_runtime.model.manifest import METADATA_KEY, read_preprocess, read_theta
from stn_runtime.model.theta_statistics import ThetaStatistics, describe_theta

from .graph.deployment import Deployment
from .graph.onnx_files import read_onnx, write_onnx
from .proof.reference import torch_outputs

log = logging.getLogger(__name__)

_BATCH = 64
_LONG_SECONDS = 10.0


def theta_of(
    described: Checkpoint, source: str, deployment: Deployment, images: NDArray[np.uint8] | None
) -> ThetaStatistics | None:
    """Return what theta was in training, else what it is on pictures, else None.

    Args:
        described: The checkpoint.
        source: Where it comes from, for error messages.
        deployment: Its network.
        images: (M, H, W, C), preprocessed.

    Raises:
        ModelContractError: The checkpoint's statistics are damaged.
    """
    if described.theta is not None:
        return read_theta(described.theta, source)
    if images is None or not deployment.transformers:
        return None
    thetas = np.concatenate(list(_thetas(deployment, images)))
    pixels = [np.full(np.diff(spec.theta), 2 / max(spec.input_size)) for spec in deployment.transformers]
    return describe_theta(thetas, np.concatenate(pixels))


def _thetas(deployment: Deployment, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """Yield the theta of each batch, and say after the first of them how long the others take, if that is long."""
    started = time.monotonic()
    for first in range(0, len(images), _BATCH):
        part = images[first : first + _BATCH]
        yield torch_outputs(deployment, part)["theta"].astype(np.float32)
        seconds = (time.monotonic() - started) * (len(images) / len(part) - 1)
        if first == 0 and seconds > _LONG_SECONDS:
            log.info("measuring theta on %d pictures takes about %.0f s", len(images), seconds)


def copy_theta(checkpoint: Path, model: Path) -> None:
    """Write what a checkpoint says of theta into the manifest of a file that was exported before it did.

    The graph and the rest of the manifest stay as they are.

    Args:
        checkpoint: The checkpoint that the file was exported from.
        model: The .onnx file.

    Raises:
        InputError: A file cannot be used, they do not belong together, or the checkpoint says nothing of theta.
    """
    try:
        _, described = load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    if described.theta is None:
        raise InputError(
            f"{checkpoint}: does not say what theta was in training; see stn_training.calibration.record_theta"
        )
    file = read_onnx(model)
    entry = next((entry for entry in file.metadata_props if entry.key == METADATA_KEY), None)
    if entry is None:
        raise ModelContractError(f"{model}: keeps no manifest; export it with 'stn export'")
    manifest = Manifest.from_json(entry.value, str(model))
    spec = read_preprocess(described.preprocess, str(checkpoint))
    if (described.labels, spec) != (manifest.labels, manifest.preprocess):
        raise InputError(f"{model}: its labels or its preprocessing are not those of {checkpoint}")
    theta = read_theta(described.theta, str(checkpoint))
    entry.value = dataclasses.replace(manifest, theta=theta).to_json()
    Manifest.from_json(entry.value, str(model))  # as many parameters as the transformers have
    write_onnx(file.SerializeToString(), model)
