"""The manifest: the description of a model, stored as JSON in the metadata of its file."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ModelContractError, printable
from ..images.preprocessing import PreprocessSpec
from .schema import FieldError, read_as
from .theta_statistics import ThetaStatistics

METADATA_KEY = "stn_edge"
SCHEMA = 1

_MOST_PIXELS = 1 << 26  # of the network's input
_LONGEST_SIDE = 1 << 16  # pixels that a transformer samples, or returns
_LONGEST_SEQUENCE = 64
_NEWEST_OPSET = 1000  # far above any that will be
_LONGEST_NAME = 1000  # characters of a label, or of the model's name
_LONGEST_FAULT = 300  # characters of what a message says of a field

Form = Literal["fused", "portable", "split"]
Precision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class TransformerSpec:
    """One spatial transformer of the network.

    Attributes:
        name: Name of the module in PyTorch.
        grid: Name of the grid generator: attention, similarity, affine, projective or tps.
        theta: First index (inclusive) and last index (exclusive) of its parameters in the ``theta`` output.
        input_size: (height, width) of the image that it samples, pixels.
        output_size: (height, width) of the image that it returns, pixels.
        interpolation: bilinear or nearest.
        padding: zeros, border or reflection.
        align_corners: Convention of the sampling grid, as in PyTorch's ``grid_sample``.
        on_image: Whether it samples the network's input itself, so that its outline can be drawn on the picture.
    """

    name: str
    grid: str
    theta: tuple[int, int]
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    interpolation: Literal["bilinear", "nearest"]
    padding: Literal["zeros", "border", "reflection"]
    align_corners: bool
    on_image: bool


@dataclass(frozen=True)
class ExportSpec:
    """How the file was made.

    Attributes:
        form: ``fused``, one graph with ``GridSample``; ``portable``, one with the sampler in primitive operators;
            ``split``, a localisation graph and a classifier graph between which the device warps the frame.
        target: Name of the device in the export's table of targets.
        precision: Number format of weights and activations; theta, grid and sampler are in float32 always.
        opset: Version of the standard ONNX operators.
    """

    form: Form
    target: str
    precision: Precision
    opset: int


@dataclass(frozen=True)
class SequenceSpec:
    """How a network spells a text: one label at each position.

    Attributes:
        length: Number of positions, D.
        end: The label at every position behind the last character.
    """

    length: int
    end: str


@dataclass(frozen=True)
class GoldenVector:
    """An input and the outputs of the network at export; arrays are zlib-compressed, little-endian, base64.

    Attributes:
        image: (H, W, C) uint8.
        outputs: Array of each output by its name, float32, in the shape of one batch element. PyTorch computed it;
            in a file of reduced precision, onnxruntime did, on the machine of the export.
    """

    image: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """Everything that a device needs to know about a model file.

    Attributes:
        name: Name of the model.
        labels: labels[i] names probability i; of a network that spells texts, the characters and what ends them.
        preprocess: How a picture becomes the ``image`` input.
        transformers: Spatial transformers in order of use; empty for a network without one.
        outputs: Names of the graph's outputs, in order.
        export: How the file was made.
        data: What the network was trained on and how; free-form.
        metrics: Measured figures by name, accuracy in percent.
        parity: Largest absolute difference between PyTorch and onnxruntime, by output.
        verification: What the export verified and measured: differences allowed, pictures, gates; free-form.
        versions: Version of each package that trained or exported the model, by name.
        license: Licence of the weights, an SPDX expression.
        golden: Inputs with the outputs recorded at export, replayed by ``stn verify``.
        theta: Statistics of theta on the training pictures; None where they were not measured.
        reject: The label that means none of the others, which is never given to a picture; None where there is none.
        threshold: Confidence from 0 to 1, found on validation data, below which a picture gets no label; None gives
            every picture one.
        sequence: How texts are spelled, where the answer to a picture is a text of several labels; None where it is
            one.
        schema: Version of this description.
    """

    name: str
    labels: tuple[str, ...]
    preprocess: PreprocessSpec
    transformers: tuple[TransformerSpec, ...]
    outputs: tuple[str, ...]
    export: ExportSpec
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    parity: Mapping[str, float] = field(default_factory=dict)
    verification: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    license: str = ""
    golden: tuple[GoldenVector, ...] = ()
    theta: ThetaStatistics | None = None
    reject: str | None = None
    threshold: float | None = None
    sequence: SequenceSpec | None = None
    schema: int = SCHEMA

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """Shape of one picture's probabilities: (K,), or (D, K) of a network that spells texts."""
        return (len(self.labels),) if self.sequence is None else (self.sequence.length, len(self.labels))

    def rejects(self, answer: str) -> bool:
        """Return whether an answer means none of the others: the reject class, or a text without a character."""
        return answer == self.reject or (self.sequence is not None and not answer)

    def label_rule(self, threshold: float | None = None) -> str:
        """Return in words which pictures get no label; empty where each gets one.

        Args:
            threshold: Confidence that is used instead of the manifest's.
        """
        limit = self.threshold if threshold is None else threshold
        which = [f"below confidence {limit:.8g}"] if limit else []
        which += [f"for class '{printable(self.reject)}'"] if self.reject is not None else []
        which += ["where no character is found"] if self.sequence is not None else []
        return f"no label {' and '.join(which)}" if which else ""

    def to_json(self) -> str:
        """Return the manifest as JSON, the form that ``from_json`` reads.

        Raises:
            ModelContractError: A number in the manifest is not finite; JSON has no such number.
        """
        try:
            return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True, allow_nan=False)
        except ValueError as error:
            raise ModelContractError(f"{self.name}: its data, metrics or figures hold NaN or infinity") from error

    @classmethod
    def from_json(cls, text: str, source: str) -> "Manifest":
        """Read a manifest.

        Args:
            text: JSON.
            source: File that holds the text, for error messages.

        Raises:
            ModelContractError: Not JSON, from a newer version, or a field is missing or wrong; the message names it.
        """
        try:
            data = json.loads(text, object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            fault = printable(str(error), _LONGEST_FAULT)
            raise ModelContractError(f"{source}: the manifest is not JSON ({fault}); export the model again") from error
        if not isinstance(data, dict):
            raise ModelContractError(f"{source}: the manifest is not a JSON object; export the model again")
        schema = data.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise ModelContractError(
                f"{source}: the manifest has schema {printable(str(schema), 20)}, this version reads up to {SCHEMA}; "
                "update stn-edge"
            )
        try:
            manifest = read_as(cls, data, "manifest")
            _check(manifest)
        except FieldError as error:
            raise _unusable(source, error, "export the model again") from error
        return manifest


def read_preprocess(data: Mapping[str, Any], source: str) -> PreprocessSpec:
    """Return a preprocessing spec from parsed JSON, as a checkpoint carries it.

    Raises:
        ModelContractError: A field is missing or wrong; the message names it and ``source``.
    """
    try:
        spec = read_as(PreprocessSpec, data, "preprocess", refuse_unknown=True)
        _check_preprocess(spec, "preprocess")
    except FieldError as error:
        raise _unusable(source, error, "the file is damaged") from error
    return spec


def read_theta(data: Mapping[str, Any], source: str) -> ThetaStatistics:
    """Return statistics of theta from parsed JSON, as a checkpoint carries them.

    Raises:
        ModelContractError: A field is missing or wrong; the message names it and ``source``.
    """
    try:
        statistics = read_as(ThetaStatistics, data, "theta")
        _check_theta(statistics, "theta")
    except FieldError as error:
        raise _unusable(source, error, "the file is damaged") from error
    return statistics


def _unusable(source: str, error: FieldError, remedy: str) -> ModelContractError:
    return ModelContractError(f"{source}: {printable(str(error), _LONGEST_FAULT)}; {remedy}")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; which of two values of one key counts would be up to the reader (RFC 8259, section 4)."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key '{printable(twice)}' stands twice in an object")
    return values


def _check_text(text: str, path: str) -> None:
    """Refuse lone surrogates, which no UTF-8 holds, and endless text."""
    if len(text) > _LONGEST_NAME:
        raise FieldError(path, f"has {len(text)} characters, at most {_LONGEST_NAME} are taken")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FieldError(path, f"holds '{printable(text[error.start])}', which is no character of a text") from error


def _check_figures(figures: Mapping[str, float], path: str) -> None:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise FieldError(f"{path}.{printable(name, 60)}", f"is {value}, expected a finite number")


def _check_preprocess(spec: PreprocessSpec, path: str) -> None:
    sizes = f"{spec.height} x {spec.width} x {spec.channels} pixels"
    if min(spec.height, spec.width) < 1 or spec.channels not in (1, 3):
        raise FieldError(path, f"asks for {sizes}")
    if spec.height * spec.width > _MOST_PIXELS:
        raise FieldError(path, f"asks for {sizes}, at most {_MOST_PIXELS} are taken")


def _check(manifest: Manifest) -> None:
    if manifest.schema < 1:
        raise FieldError("manifest.schema", f"is {manifest.schema}, the first is 1")
    _check_preprocess(manifest.preprocess, "manifest.preprocess")
    _check_text(manifest.name, "manifest.name")
    if not manifest.labels:
        raise FieldError("manifest.labels", "is empty")
    for index, label in enumerate(manifest.labels):
        _check_text(label, f"manifest.labels[{index}]")
    if manifest.reject is not None and manifest.labels.count(manifest.reject) != 1:  # two labels may be alike
        how_often = "two" if manifest.reject in manifest.labels else "none"
        raise FieldError("manifest.reject", f"is '{printable(manifest.reject)}', which is {how_often} of the labels")
    if manifest.threshold is not None and not 0 <= manifest.threshold <= 1:  # NaN neither
        raise FieldError("manifest.threshold", f"is {manifest.threshold:g}, expected 0 to 1")
    if manifest.sequence is not None:
        _check_sequence(manifest.sequence, manifest)
    if "probabilities" not in manifest.outputs:
        raise FieldError("manifest.outputs", "lacks 'probabilities'")
    _check_figures(manifest.metrics, "manifest.metrics")
    _check_figures(manifest.parity, "manifest.parity")
    if not 1 <= manifest.export.opset <= _NEWEST_OPSET:
        raise FieldError("manifest.export.opset", f"is {manifest.export.opset}, which is no version of ONNX")
    if manifest.export.form == "split":
        if not manifest.transformers:
            raise FieldError("manifest.export.form", "is split, but there is no transformer")
        if not all(transformer.on_image for transformer in manifest.transformers):
            raise FieldError("manifest.export.form", "is split, but a transformer does not sample the image")
    end = 0
    for index, transformer in enumerate(manifest.transformers):
        _check_text(transformer.name, f"manifest.transformers[{index}].name")
        _check_text(transformer.grid, f"manifest.transformers[{index}].grid")
        first, last = transformer.theta
        if first != end or last <= first:
            raise FieldError(f"manifest.transformers[{index}].theta", f"is {first}:{last}, expected to start at {end}")
        sides = (*transformer.input_size, *transformer.output_size)
        if min(sides) < 1 or max(sides) > _LONGEST_SIDE:
            raise FieldError(
                f"manifest.transformers[{index}]",
                f"makes {transformer.output_size} of {transformer.input_size} pixels",
            )
        end = last
    if manifest.theta is not None:
        _check_theta(manifest.theta, "manifest.theta")
        if len(manifest.theta.mean) != end:
            count = len(manifest.theta.mean)
            raise FieldError("manifest.theta", f"has {count} parameters, the transformers have {end}")


def _check_sequence(sequence: SequenceSpec, manifest: Manifest) -> None:
    if not 1 <= sequence.length <= _LONGEST_SEQUENCE:
        raise FieldError("manifest.sequence.length", f"is {sequence.length}, expected 1 to {_LONGEST_SEQUENCE}")
    if manifest.labels.count(sequence.end) != 1 or len(manifest.labels) < 2:
        raise FieldError("manifest.sequence.end", f"is '{printable(sequence.end)}', which must be one label of several")
    if manifest.reject is not None:
        raise FieldError("manifest.reject", "is named, but a text is rejected by having no character")


def _check_theta(statistics: ThetaStatistics, path: str) -> None:
    fault = statistics.fault()
    if fault is not None:
        raise FieldError(path, f"cannot be used: {fault}")
