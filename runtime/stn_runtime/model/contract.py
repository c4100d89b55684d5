"""The contract of a model file: what its graph takes and gives must be what its manifest says.

A file may come from a stranger, so nothing that it declares is taken for granted: the graph is checked when it is
opened, and its answers when it has run once.
"""

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import ModelContractError, printable
from .manifest import Manifest
from .theta_statistics import Floats

GRID = "grid_{}"
"""Outputs of the split form's localisation graph: the sampling grid of the transformer of that number."""

WARPED = "warped_{}"
"""Inputs of its classifier graph: what the transformer of that number sampled, (N, C, h, w) in [0, 1]."""

ROUNDING = 1e-3
"""How far below 0 or above 1 a probability may be; a softmax in half precision is off by less."""

_SUM_ROUNDING = 0.05  # of the probabilities of a picture; int8 rounds each to 1/256
_LONGEST_SIDE = 8192  # pixels of a rectified picture
_MOST_POINTS = 4096  # of an outline
_LONGEST_LIST = 300  # characters of a list of names or sizes in a message
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
_TYPES = {"probabilities": _FLOATS, "theta": _FLOATS, "outline": _FLOATS, "rectified": ("tensor(uint8)",)}


def check_graph(session: ort.InferenceSession, manifest: Manifest, source: str) -> None:
    """Check what an open file declares of its input and outputs.

    Raises:
        ModelContractError: It is not what the manifest says.
    """
    _check_input(session, manifest, source)
    _check_outputs(session, manifest, source)
    if manifest.export.form != "split":
        check_probabilities(session, manifest, source)


def check_probabilities(session: ort.InferenceSession, manifest: Manifest, source: str) -> None:
    """Check that a graph declares one probability for each label.

    Raises:
        ModelContractError: It does not.
    """
    outputs = {entry.name: entry for entry in session.get_outputs()}
    declared = outputs.get("probabilities")
    if declared is not None:
        _check_type(declared, source)
    shape = declared.shape if declared is not None else []
    if tuple(shape[1:]) != manifest.answer_shape:
        expected = " x ".join(map(str, ("N", *manifest.answer_shape)))
        raise ModelContractError(f"{source}: output 'probabilities' is {listed(shape)}, expected {expected} labels")


def check_answers(outputs: Mapping[str, NDArray[np.generic]], manifest: Manifest, source: str) -> None:
    """Check the shapes and values of what a file answers to one picture of noise.

    An outline may be infinite, as that of a projective transformer is which looks at its horizon.

    Args:
        outputs: Outputs by name, each of a batch of one.
        manifest: Manifest of the file.
        source: Name of the file, for messages.

    Raises:
        ModelContractError: They are not what the manifest says, or no answers: NaN, or probabilities that are none.
    """
    parameters = manifest.transformers[-1].theta[1] if manifest.transformers else 0
    _check_shape(outputs, "probabilities", (1, *manifest.answer_shape), source)
    _check_shape(outputs, "theta", (1, parameters), source)
    _check_shape(outputs, "outline", (1, len(manifest.transformers), None, 2), source)
    points = outputs["outline"].shape[2] if "outline" in outputs else 4
    if not 4 <= points <= _MOST_POINTS or points % 4:
        raise _wrong("outline", outputs["outline"].shape, "4, 8, 12 ... points", source)
    _check_shape(outputs, "rectified", (1, None, None, None), source)
    if "rectified" in outputs:
        _, height, width, channels = outputs["rectified"].shape
        if not (1 <= height <= _LONGEST_SIDE and 1 <= width <= _LONGEST_SIDE and channels in (1, 3)):
            raise _wrong("rectified", outputs["rectified"].shape, "a grey or RGB picture", source)
    for name in ("probabilities", "theta"):
        if name in outputs and not np.isfinite(outputs[name].astype(np.float64)).all():
            raise ModelContractError(
                f"{source}: output '{name}' holds NaN or infinity on a picture of noise; export the model again"
            )
    values = outputs["probabilities"].astype(np.float64)
    if not are_probabilities(values):
        raise ModelContractError(
            f"{source}: output 'probabilities' goes from {values.min():g} to {values.max():g}, expected 0 to 1; "
            "export the model again"
        )
    sums = values.sum(axis=-1)
    if (np.abs(sums - 1) > _SUM_ROUNDING).any():
        raise ModelContractError(
            f"{source}: the probabilities of a picture add up to {sums[np.abs(sums - 1).argmax()]:g}, expected 1; "
            "export the model again"
        )


def are_probabilities(values: Floats) -> bool:
    """Return whether all values are numbers from 0 to 1; NaN is none."""
    return bool(((values >= -ROUNDING) & (values <= 1 + ROUNDING)).all())


def listed(values: object) -> str:
    """Return a list of names or sizes from a file as it stands in a message, cut."""
    return printable(str(values), _LONGEST_LIST)


def _check_input(session: ort.InferenceSession, manifest: Manifest, source: str) -> None:
    spec = manifest.preprocess
    inputs = session.get_inputs()
    expected = [spec.height, spec.width, spec.channels]
    names = [entry.name for entry in inputs]
    if names != ["image"]:
        raise ModelContractError(f"{source}: inputs are {listed(names)}, expected only 'image'")
    batch, *size = inputs[0].shape or [None]
    if inputs[0].type != "tensor(uint8)" or size != expected:
        raise ModelContractError(
            f"{source}: input 'image' is {inputs[0].type} {listed(inputs[0].shape)}, "
            f"the manifest says tensor(uint8) N x {expected}"
        )
    if isinstance(batch, int) and batch != 1:
        raise ModelContractError(f"{source}: takes {batch} pictures at a time, expected any number, or one")


def _check_outputs(session: ort.InferenceSession, manifest: Manifest, source: str) -> None:
    outputs = {entry.name: entry for entry in session.get_outputs()}
    grids = [GRID.format(number) for number in range(len(manifest.transformers))]
    if manifest.export.form == "split":
        if list(outputs) != ["theta", "outline", *grids]:
            raise ModelContractError(
                f"{source}: is of the split form, but its outputs are {listed(list(outputs))}; export it again"
            )
    elif tuple(outputs) != manifest.outputs:
        raise ModelContractError(
            f"{source}: outputs are {listed(list(outputs))}, the manifest says {listed(list(manifest.outputs))}"
        )
    for entry in outputs.values():
        _check_type(entry, source)
    for name, rank in (("theta", 2), ("outline", 4), ("rectified", 4)):
        if name in outputs and len(outputs[name].shape) != rank:
            raise ModelContractError(
                f"{source}: output '{name}' is {listed(outputs[name].shape)}, "
                f"expected {rank} dimensions; export it again"
            )
    parameters = manifest.transformers[-1].theta[1] if manifest.transformers else 0
    for name, expected_size in (("theta", parameters), ("outline", len(manifest.transformers))):
        if name in outputs and outputs[name].shape[1] != expected_size:
            raise ModelContractError(
                f"{source}: output '{name}' is {listed(outputs[name].shape)}, "
                f"the manifest's transformers need N x {expected_size}"
            )


def _check_type(entry: ort.NodeArg, source: str) -> None:
    """Check that an output is a tensor of the numbers that it must hold; grids and unknown ones hold floats."""
    expected = _TYPES.get(entry.name, _FLOATS)
    if entry.type not in expected:
        raise ModelContractError(
            f"{source}: output '{printable(entry.name)}' is {printable(entry.type)}, expected {expected[0]}; "
            "export it again"
        )


def _check_shape(
    outputs: Mapping[str, NDArray[np.generic]], name: str, expected: tuple[int | None, ...], source: str
) -> None:
    """Check the shape of an output, where it is there; None stands for any size."""
    if name not in outputs:
        return
    shape = outputs[name].shape
    fits = len(shape) == len(expected) and all(
        size in (found, None) for found, size in zip(shape, expected, strict=True)
    )
    if not fits:
        wanted = " x ".join("any" if size is None else str(size) for size in expected)
        raise _wrong(name, shape, wanted, source)


def _wrong(name: str, shape: tuple[int, ...], expected: str, source: str) -> ModelContractError:
    return ModelContractError(
        f"{source}: output '{name}' is {shape} for one picture, expected {expected}; export the model again"
    )
