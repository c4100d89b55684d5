"""Where a model is going to run: one row a target, which decides how it is exported and what its linter looks for."""

from dataclasses import dataclass
from typing import get_args

from stn_runtime import InputError
from stn_runtime.model.manifest import Form, Precision

from ..graph.opsets import OPSET

FUSED_OPSETS = range(16, 20)
"""GridSample exists from 16 on; from 20 on its modes are called otherwise, which engines read wrongly or not at all."""

PORTABLE_OPSETS = range(13, 20)

_ALL_PADDINGS = ("zeros", "border", "reflection")
_STANDARD, _MICROSOFT = "ai.onnx", "com.microsoft"


@dataclass(frozen=True)
class Target:
    """What an engine can do with spatial transformers, and how to export for it.

    Attributes:
        name: The target's name on the command line.
        summary: The target in a few words.
        form: Form of an export for the target.
        opset: Opset of the standard operators in an export for the target.
        precision: Precision of an export for the target.
        domains: Operator domains that the target runs; an export has ai.onnx alone.
        falls_back: Whether operators that the target lacks run on the CPU instead: slower, but right.
        versions: Versions of GridSample that the target computes rightly, by their opset; empty without GridSample.
        modes: Modes of the target's GridSample.
        paddings: Paddings of the target's GridSample.
        takes_half: Whether the target's GridSample takes float16.
        static: Whether the target wants fixed shapes; its exports take one picture at a time.
        newer: What happens from opset 20 on, or with any GridSample, with the public issue.
        known: What else is known to go wrong, with the public issue.
    """

    name: str
    summary: str
    form: Form = "fused"
    opset: int = 18
    precision: Precision = "float32"
    domains: tuple[str, ...] = (_STANDARD,)
    falls_back: bool = False
    versions: tuple[int, ...] = (16,)
    modes: tuple[str, ...] = ("bilinear", "nearest", "bicubic")
    paddings: tuple[str, ...] = _ALL_PADDINGS
    takes_half: bool = False
    static: bool = False
    newer: str = ""
    known: tuple[str, ...] = ()


_TABLE = (
    Target(
        "cpu",
        "onnxruntime on a CPU: PC, Raspberry Pi, phone",
        domains=(_STANDARD, _MICROSOFT),
        falls_back=True,
        versions=(16, 20, 22),
        known=("bilinear with zeros and align_corners 0 is 3 to 4 times faster than other modes (onnxruntime#27359)",),
    ),
    Target(
        "cuda",
        "onnxruntime on an NVIDIA GPU",
        domains=(_STANDARD, _MICROSOFT),
        falls_back=True,
        versions=(16, 20, 22),
        known=("before onnxruntime 1.18 GridSample ran on the CPU, with copies (onnxruntime#18942)",),
    ),
    Target(
        "tensorrt",
        "TensorRT, alone or in onnxruntime",
        modes=("bilinear", "nearest"),
        newer="TensorRT samples nearest instead of bilinear, without a word (TensorRT#4646)",
        known=("some builds sample wrongly and do not say so: verify on the device (lightly-train#917)",),
    ),
    Target(
        "openvino",
        "OpenVINO on Intel CPUs and GPUs",
        newer="OpenVINO refuses to load it (openvino#33531)",
        known=(
            "a CPU that has bfloat16 computes in it unless told otherwise, which moves probabilities of 'digits' by "
            "6e-2: compile the model with {'INFERENCE_PRECISION_HINT': 'f32'}",
            "its GPU is fast for bilinear with zeros only (openvino#28448)",
        ),
    ),
    Target(
        "directml",
        "onnxruntime on Windows GPUs",
        domains=(_STANDARD, _MICROSOFT),
        falls_back=True,
        takes_half=True,
        newer="whether DirectML knows the new names of the modes is not documented",
    ),
    Target(
        "coreml",
        "onnxruntime on Apple devices",
        domains=(_STANDARD, _MICROSOFT),
        falls_back=True,
        modes=("bilinear",),
        paddings=("zeros", "border"),
        static=True,
        newer="the first versions of the provider know other names of the modes (onnxruntime#21431)",
        known=(
            "Core ML resamples on the CPU, not on the GPU or the Neural Engine (coremltools#1875)",
            "reflection is taken with align_corners 1 only",
        ),
    ),
    Target(
        "qnn",
        "onnxruntime on Qualcomm NPUs",
        domains=(_STANDARD, _MICROSOFT),
        falls_back=True,
        modes=("bilinear", "nearest"),
        static=True,
        newer="only builds after July 2025 know the new names of the modes (onnxruntime#25408)",
        known=(
            "graphs with open shapes stay on the CPU",
            "int8 on the HTP wants a calibration of its own (onnxruntime#14233)",
        ),
    ),
    Target(
        "web",
        "onnxruntime-web in a browser",
        domains=(_STANDARD, _MICROSOFT),
        falls_back=True,
        takes_half=True,
        newer="the WebGPU kernel is registered for opsets 16 to 19 only (onnxruntime#28264)",
        known=("WebGPU sampled wrongly in some versions: replay the golden vectors first (onnxruntime#32275)",),
    ),
    Target(
        "opencv",
        "OpenCV's dnn module",
        form="split",
        opset=13,
        versions=(),
        static=True,
        newer="OpenCV before 5.0 has no GridSample, and fails on the portable form too (opencv#27700)",
        known=(
            "measured on the nine files of 'digits': 4.8 and 4.14 read the three of the split form, in any precision; "
            "5.0 all in float32 and float16, with its classic engine those in float32 and int8 but the portable form",
        ),
    ),
    Target(
        "generic-npu",
        "NPUs with a converter of their own: RKNN, Hailo, Edge TPU, TFLite",
        form="split",
        opset=13,
        versions=(),
        static=True,
        newer="their converters have no GridSample, or convert it and fail on the board (rknn-toolkit2#276)",
    ),
)

TARGETS = {target.name: target for target in _TABLE}
"""The targets by name."""


@dataclass(frozen=True)
class Plan:
    """How a model is exported; the attributes are those of ``Target``."""

    target: str
    form: Form
    precision: Precision
    opset: int
    static: bool = False


def plan_export(
    target: str = "cpu", form: Form | None = None, precision: Precision | None = None, opset: int | None = None
) -> Plan:
    """Return how to export for a target; what is given goes before what the target prefers.

    Raises:
        InputError: There is no such target, form or precision, or the opset does not go with the form.
    """
    row = find_target(target)
    for name, given, known in (("form", form, get_args(Form)), ("precision", precision, get_args(Precision))):
        if given is not None and given not in known:
            raise InputError(f"no {name} '{given}'; choose from {', '.join(known)}")
    chosen = form or row.form
    if opset is None:
        opset = row.opset if chosen == row.form else (13 if chosen == "portable" else 18)
    if opset >= 20:
        raise InputError(
            f"opset {opset}: from 20 on the modes of GridSample have other names, and some engines then sample "
            "nearest without a word (TensorRT#4646); use 18"
        )
    opsets = FUSED_OPSETS if chosen == "fused" else PORTABLE_OPSETS
    if opset > OPSET:
        raise InputError(f"opset {opset}: an export has at most {OPSET}, where GridSample is the same; use {OPSET}")
    if opset not in opsets:
        reason = "GridSample exists from 16 on" if chosen == "fused" else "its operators exist from 13 on"
        advice = (
            "use 16 to 18, or --form portable" if chosen == "fused" and opset >= 13 else f"use {opsets.start} or later"
        )
        raise InputError(f"opset {opset} is too old for the {chosen} form: {reason}; {advice}")
    return Plan(target, chosen, precision or row.precision, opset, row.static)


def find_target(name: str) -> Target:
    """Return the target called ``name``.

    Raises:
        InputError: There is none.
    """
    if name not in TARGETS:
        raise InputError(f"no target '{name}'; choose from {', '.join(TARGETS)}")
    return TARGETS[name]


def target_table() -> str:
    """Return the targets as a table: form, opset, precision, operator domains, what they sample, what fails."""
    lines = [f"{'target':<12} {'form':<9} opset  {'precision':<10} {'pictures':<9} what"]
    for target in TARGETS.values():
        row = f"{target.name:<12} {target.form:<9} {target.opset:<5}  {target.precision:<10} "
        lines.append(f"{row}{'one' if target.static else 'any':<9} {target.summary}")
        samples = f"{', '.join(target.modes)}; {', '.join(target.paddings)}" if target.versions else "no GridSample"
        lines.append(f"{'':<12} runs: {', '.join(target.domains)}; samples: {samples}")
        beyond = "from opset 20 on: " if target.versions else ""
        known = [f"{beyond}{target.newer}", *target.known] if target.newer else target.known
        lines += [f"{'':<12} known: {sentence}" for sentence in known]
    return "\n".join(lines)
