"""From a checkpoint to a model file: one ONNX graph with its manifest, proven equal before it gets its name."""

import logging
import platform
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from stn_models import Checkpoint, CheckpointError, load_checkpoint
from stn_runtime import ExportSpec, GoldenVector, InputError, Manifest, PreprocessSpec
from stn_runtime.golden import make_golden
from stn_runtime.manifest import METADATA_KEY, read_preprocess

from .deployment import Deployment
from .verification import Parity, torch_outputs, verify

log = logging.getLogger(__name__)

OPSET = 18
"""Of 16 to 19, which every engine with ``GridSample`` samples right; 20 renamed the modes (TensorRT#4646)."""

_GOLDEN_REAL, _GOLDEN_RANDOM = 4, 2
_FORBIDDEN = ("AffineGrid", "ReduceSum")


class ParityError(Exception):
    """The exported graph does not answer as PyTorch does; the message holds the table."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    path: Path
    manifest: Manifest
    parity: Parity


def export_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    name: str | None = None,
    license: str = "",
    images: NDArray[np.uint8] | None = None,
    with_rectified: bool = True,
) -> Exported:
    """Write a checkpoint as a model file (fused form, opset 18, float32) after verifying it against PyTorch.

    Args:
        checkpoint: Written by ``stn train``.
        output: The .onnx file; it appears only when the verification has passed.
        name: Of the model; by default the output's stem.
        license: Of the weights, an SPDX expression.
        images: Real pictures (M, H, W, C), preprocessed; some become golden vectors inside the file.
        with_rectified: Whether the file has the output ``rectified``.

    Raises:
        InputError: The checkpoint cannot be used.
        ParityError: The graph differs from PyTorch; nothing was written.
    """
    try:
        network, described = load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    spec = read_preprocess(described.preprocess, str(checkpoint))
    deployment = Deployment(network, spec, with_rectified).eval()
    model = export_graph(deployment, spec)
    real = images if images is not None else np.empty((0, spec.height, spec.width, spec.channels), np.uint8)
    parity = verify(deployment, model, spec, real)
    if not parity.passed:
        raise ParityError(
            f"{output}: the exported graph differs from PyTorch, nothing was written (an earlier file stays)\n"
            f"{parity.table()}"
        )
    manifest = _manifest(name or output.stem, license, described, deployment, spec, model)
    manifest = replace(manifest, parity=parity.differences, golden=_golden(deployment, spec, real))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, manifest.to_json()
    _write(model.SerializeToString(), output)
    return Exported(output, manifest, parity)


def export_graph(deployment: Deployment, spec: PreprocessSpec) -> onnx.ModelProto:
    """Return the network as an ONNX graph with a dynamic batch, checked.

    Raises:
        ParityError: The graph does not have the shape that it must have.
    """
    example = torch.zeros(2, spec.height, spec.width, spec.channels, dtype=torch.uint8)
    with torch.no_grad():
        names = list(deployment.outputs(example).named())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing a user can mend
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            deployment,
            (example,),
            input_names=["image"],
            output_names=names,
            opset_version=OPSET,
            dynamic_shapes={"image": {0: torch.export.Dim("N")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    raw = program.model_proto  # type: ignore[union-attr]  # None only without dynamo
    model: onnx.ModelProto = onnx.shape_inference.infer_shapes(raw, strict_mode=True, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    _check_graph(model, len(deployment.transformers))
    return model


def _check_graph(model: onnx.ModelProto, transformers: int) -> None:
    """Refuse a graph that is not the fast one: one sampler for each transformer, and each grid one matrix product."""
    counts = Counter(node.op_type for node in model.graph.node)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    faults = [f"{counts[kind]} {kind}" for kind in _FORBIDDEN if transformers and counts[kind]]
    if counts["GridSample"] != transformers:
        faults.append(f"{counts['GridSample']} GridSample for {transformers} transformers")
    if opset != OPSET:
        faults.append(f"opset {opset} instead of {OPSET}")
    if any(entry.domain not in ("", "ai.onnx") for entry in model.opset_import if _is_used(model, entry.domain)):
        faults.append("operators outside the standard")
    if faults:
        raise ParityError(f"the exporter made another graph than expected: {', '.join(faults)}; nothing was written")


def _is_used(model: onnx.ModelProto, domain: str) -> bool:
    return any(node.domain == domain for node in model.graph.node)


def _manifest(
    name: str,
    license_name: str,
    described: Checkpoint,
    deployment: Deployment,
    spec: PreprocessSpec,
    model: onnx.ModelProto,
) -> Manifest:
    versions = {
        "stn-edge": metadata.version("stn-edge"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxscript": metadata.version("onnxscript"),
        "onnxruntime": ort.__version__,
    }
    return Manifest(
        name=name,
        labels=described.labels,
        preprocess=spec,
        transformers=deployment.transformers,
        outputs=tuple(output.name for output in model.graph.output),
        export=ExportSpec(form="fused", target="cpu", precision="float32", opset=OPSET),
        data=described.training,
        metrics=described.metrics,
        versions=versions,
        license=license_name,
    )


def _write(data: bytes, output: Path) -> None:
    """Write a file under its name only once it is whole."""
    partial = output.with_name(output.name + ".partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror or error})") from error


def _golden(deployment: Deployment, spec: PreprocessSpec, images: NDArray[np.uint8]) -> tuple[GoldenVector, ...]:
    random = np.random.default_rng(1).integers(
        0, 256, (_GOLDEN_RANDOM, spec.height, spec.width, spec.channels), np.uint8
    )
    real = images[:: max(1, len(images) // _GOLDEN_REAL)][:_GOLDEN_REAL]
    batch = np.concatenate([real, random])
    outputs = torch_outputs(deployment, batch)
    return tuple(
        make_golden(image, {name: values[index] for name, values in outputs.items()})
        for index, image in enumerate(batch)
    )
