"""Golden vectors: inputs with the outputs that PyTorch gave, replayed where PyTorch is not."""

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from .errors import ModelContractError
from .manifest import GoldenVector, Manifest
from .preprocessing import PreprocessSpec

_Number = TypeVar("_Number", np.uint8, np.float32)

# Largest absolute difference that another processor's arithmetic explains. Between AVX2 and AVX-512 builds we saw
# up to 2e-6 in probabilities and theta; a wrong sampler or preprocessing is off by 1e-2 and more.
TOLERANCES: Mapping[str, float] = {"probabilities": 1e-4, "theta": 1e-4, "outline": 1e-4, "rectified": 1.0}
"""By output; ``rectified`` in levels of 255."""


@dataclass(frozen=True)
class Replay:
    """What replaying the golden vectors gave.

    Attributes:
        count: How many vectors.
        differences: Largest absolute difference from PyTorch, by output.
        labels_differ: For how many vectors the most probable label differs.
    """

    count: int
    differences: Mapping[str, float]
    labels_differ: int

    @property
    def passed(self) -> bool:
        """Whether every difference is within TOLERANCES and every label equal."""
        within = all(difference <= TOLERANCES[name] for name, difference in self.differences.items())
        return within and not self.labels_differ


def encode(array: NDArray[np.generic]) -> str:
    """Return an array's bytes, little-endian, compressed, as text."""
    data = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    return base64.b64encode(zlib.compress(data.tobytes(), 9)).decode("ascii")


def make_golden(image: NDArray[np.uint8], outputs: Mapping[str, NDArray[np.generic]]) -> GoldenVector:
    """Return a golden vector of one input (H, W, C) and its outputs, one batch element each."""
    return GoldenVector(encode(image), {name: encode(values.astype(np.float32)) for name, values in outputs.items()})


def replay(session: ort.InferenceSession, manifest: Manifest, source: str) -> Replay:
    """Run every golden vector of ``manifest`` through ``session``.

    Raises:
        ModelContractError: The file has no golden vectors, or damaged ones.
    """
    unknown = sorted({name for vector in manifest.golden for name in vector.outputs} - set(TOLERANCES))
    if unknown:
        raise ModelContractError(f"{source}: golden vectors of an unknown output '{unknown[0]}'; update stn-edge")
    if not manifest.golden:
        raise ModelContractError(f"{source}: carries no golden vectors; export it again with this version")
    spec = manifest.preprocess
    differences: dict[str, float] = {}
    labels_differ = 0
    for index, vector in enumerate(manifest.golden):
        try:
            image = decode_image(vector, spec)
            actual = dict(zip(manifest.outputs, map(np.asarray, session.run(None, {"image": image})), strict=True))
            expected = {
                name: _decode(text, np.float32).reshape(actual[name].shape) for name, text in vector.outputs.items()
            }
            label = int(expected["probabilities"].argmax())
        except (ValueError, KeyError, zlib.error, binascii.Error) as error:
            raise ModelContractError(f"{source}: golden vector {index} is damaged ({error})") from error
        for name, values in expected.items():
            difference = np.abs(actual[name].astype(np.float32) - values).max(initial=0.0)
            # NaN must not pass for a small number
            difference = float(difference) if np.isfinite(difference) else float("inf")
            differences[name] = max(differences.get(name, 0.0), difference)
        labels_differ += int(actual["probabilities"].argmax()) != label
    return Replay(len(manifest.golden), differences, labels_differ)


def decode_image(vector: GoldenVector, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Return the input of a golden vector as a batch of one, (1, H, W, C).

    Raises:
        ValueError: It is damaged.
    """
    return _decode(vector.image, np.uint8).reshape(1, spec.height, spec.width, spec.channels)


def _decode(text: str, kind: type[_Number]) -> NDArray[_Number]:
    data = zlib.decompress(base64.b64decode(text, validate=True))
    return np.frombuffer(data, np.dtype(kind).newbyteorder("<"))
