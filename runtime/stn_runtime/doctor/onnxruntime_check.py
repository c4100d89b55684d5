"""Whether onnxruntime loads, is the only one, and is of a version without known faults."""

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Literal

from ..machine.interpreter import PIP
from ..machine.processor import processor_flags
from .finding import Finding
from .package_check import COMPILED_FOR_NUMPY_1, Attempt, numbers

_OLDEST = (1, 18)
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_FOR_NUMPY_2 = "1.19"  # onnxruntime#21063


@dataclass(frozen=True)
class KnownFault:
    """What is wrong with some versions of onnxruntime.

    Attributes:
        first: The first version that has it, or the oldest that we take.
        mended: The first version without it.
        where: On which processors: any, ARM of 64 bits, or those with the matrix extension SME.
        sentence: What happens, and the public source.
    """

    first: tuple[int, ...]
    mended: tuple[int, ...]
    where: Literal["any", "arm64", "sme"]
    sentence: str


_ILLEGAL_INSTRUCTION = KnownFault(
    (1, 21, 0),
    (1, 21, 1),
    "arm64",
    "stops with an illegal instruction on a Raspberry Pi 4 and other ARMv8.0 processors (onnxruntime#23957)",
)

KNOWN_FAULTS = (
    _ILLEGAL_INSTRUCTION,
    KnownFault((1, 18), (1, 19), "arm64", "float16 convolutions are wrong on Linux (onnxruntime#18992)"),
    KnownFault((1, 27, 0), (1, 27, 1), "sme", "convolutions with uneven padding are wrong (onnxruntime#28571)"),
    KnownFault((1, 24), (1, 27), "sme", "memory grows with every picture (onnxruntime#28231)"),
    KnownFault((1, 23), (1, 24), "any", "GridSample on the CPU is 7 to 15 % slower than in 1.22 (onnxruntime#27155)"),
    # bilinear, zeros, 3 x 224 x 224 on one thread of an x86 processor: 2.0 ms in 1.22.0 and in 1.24.4, 0.8 in 1.25.1
    KnownFault((1, 18), (1, 25), "any", "the default sampler takes 2.5 times as long as in 1.25 (onnxruntime#27359)"),
)


def check_onnxruntime(attempt: Attempt) -> list[Finding]:
    """Return how onnxruntime is: whether it loads, is one of several, and what is known of its version."""
    wheels = sorted(set(metadata.packages_distributions().get("onnxruntime", ())))
    wheel = next((name for name in wheels if name != "onnxruntime"), "onnxruntime")
    if not attempt.version:
        return [_broken(attempt, wheel), *_several(wheels, wheel)]
    version = numbers(attempt.version)
    faults = [fault for fault in KNOWN_FAULTS if fault.first <= version < fault.mended and _concerns(fault)]
    return [
        Finding("onnxruntime", "ok", f"{attempt.version}, providers {', '.join(local_providers())}"),
        *_several(wheels, wheel),
        *_too_old(attempt.version, wheel),
        *(
            Finding("onnxruntime", "warning", f"{attempt.version}: {fault.sentence}", _update(fault, wheel))
            for fault in faults
        ),
        *_faster(wheels),
    ]


def local_providers() -> list[str]:
    """Return onnxruntime's execution providers, without the one that sends work to a server and runs nothing here."""
    available: list[str] = import_module("onnxruntime").get_available_providers()
    return [provider for provider in available if provider != "AzureExecutionProvider"]


def _several(wheels: list[str], keep: str) -> list[Finding]:
    if len(wheels) < 2:
        return []
    sentence = f"{len(wheels)} packages overwrite each other: {', '.join(wheels)}"
    remedy = f"keep one: {PIP} uninstall -y {' '.join(wheels)} && {PIP} install {keep}"
    return [Finding("onnxruntime", "warning", sentence, remedy)]


def _faster(wheels: list[str]) -> list[Finding]:
    """Return which build of onnxruntime has an engine that this device could use and that is not here."""
    providers = local_providers()
    if len(wheels) != 1 or platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    provider, wheel = "OpenVINOExecutionProvider", "onnxruntime-openvino"
    gain = "may run larger networks faster (ResNet-18 took 0.91 of the time)"
    if _NVIDIA_DRIVER.exists() or shutil.which("nvidia-smi"):
        provider, wheel, gain = "CUDAExecutionProvider", "onnxruntime-gpu", "runs networks on this device's NVIDIA GPU"
    if provider in providers:
        return []
    remedy = f"{PIP} uninstall -y {wheels[0]} && {PIP} install {wheel}, then 'stn bench MODEL' compares"
    return [Finding("onnxruntime", "note", f"{provider} is not here; it {gain}", remedy)]


def _too_old(version: str, wheel: str) -> list[Finding]:
    if numbers(version) >= _OLDEST:
        return []
    oldest = ".".join(map(str, _OLDEST))
    sentence = f"{version} is older than {oldest}, the first that stn-edge takes"
    return [Finding("onnxruntime", "warning", sentence, f"{PIP} install '{wheel}>={oldest}'")]


def _broken(attempt: Attempt, wheel: str) -> Finding:
    if attempt.missing == "onnxruntime":
        return Finding("onnxruntime", "BROKEN", "is not installed", f"{PIP} install onnxruntime")
    version = _version_of(wheel)
    fault = _ILLEGAL_INSTRUCTION
    if "llegal instruction" in attempt.reason and fault.first <= numbers(version) < fault.mended:
        return Finding("onnxruntime", "BROKEN", f"{version} {fault.sentence}", _update(fault, wheel))
    if COMPILED_FOR_NUMPY_1 in attempt.reason:
        sentence = f"{version} is {COMPILED_FOR_NUMPY_1} and does not load with {_version_of('numpy')}"
        return Finding("onnxruntime", "BROKEN", sentence, f"{PIP} install '{wheel}>={_FOR_NUMPY_2}'")
    sentence, remedy = f"{version}: {attempt.reason}", f"{PIP} install --upgrade --force-reinstall {wheel}"
    return Finding("onnxruntime", "BROKEN", sentence, remedy)


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(version unknown)"


def _update(fault: KnownFault, wheel: str) -> str:
    python = ", with Python 3.11 or newer" if fault.mended >= (1, 25) and sys.version_info < (3, 11) else ""
    return f"{PIP} install '{wheel}>={'.'.join(map(str, fault.mended))}'{python}"


def _concerns(fault: KnownFault) -> bool:
    is_arm = platform.machine().lower() in ("aarch64", "arm64")
    # only Linux tells of SME; on a Mac it may be there
    has_sme = is_arm and ("sme" in processor_flags() or sys.platform == "darwin")
    return {"any": True, "arm64": is_arm, "sme": has_sme}[fault.where]
