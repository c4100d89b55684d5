"""Golden vectors: inputs with the outputs recorded at export, replayed where PyTorch is not."""

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelContractError, printable
from ..images.preprocessing import PreprocessSpec
from .manifest import GoldenVector, Manifest
from .network import Network
from .parity import Parity, compare

_MOST_BYTES = 1 << 27  # of one array; a few bytes could unpack to gigabytes
_Number = TypeVar("_Number", np.uint8, np.float32)

# Largest absolute differences that another processor's arithmetic explains. Between AVX2 and AVX-512 builds we saw
# up to 2e-6 in probabilities and theta; a wrong sampler or preprocessing is off by 1e-2 and more. Half precision and
# int8 are compared with what onnxruntime gave where the file was made: they round often, and in other orders.
TOLERANCES: Mapping[str, Mapping[str, float]] = {
    "float32": {"probabilities": 1e-4, "theta": 1e-4, "outline": 1e-4, "rectified": 1.0},
    "float16": {"probabilities": 1e-2, "theta": 1e-2, "outline": 1e-2, "rectified": 16.0},
    "int8": {"probabilities": 5e-2, "theta": 2e-2, "outline": 2e-2, "rectified": 32.0},
}
"""By precision and output; ``rectified`` in levels of 255."""


def encode(array: NDArray[np.generic]) -> str:
    """Return an array's bytes, little-endian, compressed, as text."""
    data = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    return base64.b64encode(zlib.compress(data.tobytes(), 9)).decode("ascii")


def make_golden(image: NDArray[np.uint8], outputs: Mapping[str, NDArray[np.generic]]) -> GoldenVector:
    """Return a golden vector of one input (H, W, C) and its outputs, one batch element each."""
    return GoldenVector(encode(image), {name: encode(values.astype(np.float32)) for name, values in outputs.items()})


def replay(network: Network) -> Parity:
    """Run every golden vector of a model file, and return how far its answers are from the recorded ones.

    Raises:
        ModelContractError: The file has no golden vectors, or damaged ones.
    """
    manifest, source = network.manifest, network.source
    tolerances = _tolerances(manifest)
    unknown = sorted({name for vector in manifest.golden for name in vector.outputs} - set(tolerances))
    if unknown:
        raise ModelContractError(
            f"{source}: golden vectors of an unknown output '{printable(unknown[0])}'; update stn-edge"
        )
    if not manifest.golden:
        raise ModelContractError(f"{source}: carries no golden vectors; export it again with this version")
    parity = Parity({}, 0, 0, tolerances)
    for index, vector in enumerate(manifest.golden):
        try:
            image = golden_image(vector, manifest.preprocess)
            recorded = {name: _decode(text, np.float32) for name, text in vector.outputs.items()}
        except (ValueError, zlib.error, binascii.Error) as error:
            raise ModelContractError(f"{source}: golden vector {index} is damaged ({error})") from error
        actual = network.run_bounded(image, f"golden vector {index}")
        sizes = {name: values.size for name, values in recorded.items()}
        if "probabilities" not in recorded or sizes != {name: actual[name].size for name in sizes if name in actual}:
            raise ModelContractError(f"{source}: golden vector {index} is damaged: it has other outputs than the file")
        expected = {name: values.reshape(actual[name].shape) for name, values in recorded.items()}
        parity |= compare(expected, actual, tolerances)
    return parity


def _tolerances(manifest: Manifest) -> dict[str, float]:
    """Return what golden vectors may differ by: the table's, or what the export allowed, where that is more.

    The export allows more where the network's own rounding grows, which it does on every processor.
    """
    tolerances = dict(TOLERANCES[manifest.export.precision])
    own = manifest.verification.get("theta_own")
    allowed = own.get("allowed") if isinstance(own, dict) and manifest.export.precision == "float32" else None
    for name, value in allowed.items() if isinstance(allowed, dict) else ():
        if name in tolerances and isinstance(value, float) and math.isfinite(value):
            tolerances[name] = max(tolerances[name], value)
    return tolerances


def golden_image(vector: GoldenVector, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return the input of a golden vector as a batch of one, (1, H, W, C).

    Raises:
        ValueError: It is damaged.
    """
    return _decode(vector.image, np.uint8).reshape(1, spec.height, spec.width, spec.channels)


def _decode(text: str, kind: type[_Number]) -> NDArray[_Number]:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(base64.b64decode(text, validate=True), _MOST_BYTES)
    if not unpacking.eof:
        raise ValueError("it is cut off, or too large")
    return np.frombuffer(data, np.dtype(kind).newbyteorder("<"))
