"""The packages that the runtime stands on, each tried in a process of its own first."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass

from ..machine.interpreter import PIP, python_command
from .finding import Finding

_SECONDS = 30

# Onnxruntime is also made to run one graph, since an instruction that a processor lacks may be met only then; OpenCV
# is imported by way of our module, whose error names the wheel or the system library.
_ATTEMPTS = {
    "numpy": "import numpy as package",
    "onnxruntime": (
        "import onnxruntime as package; from stn_runtime.doctor import sampler_check;"
        "next(sampler_check.check_samplers(['CPUExecutionProvider']))"
    ),
    "OpenCV": "from stn_runtime.images.opencv import cv2 as package",
}
PACKAGES = tuple(_ATTEMPTS)
"""What has to load before anything is classified."""

COMPILED_FOR_NUMPY_1 = "compiled for numpy 1"
"""What the reason says of a package that cannot be loaded because of numpy 2."""

_CHILD = """
import json
try:
    {attempt}
    answer = {{"version": package.__version__}}
except BaseException as error:
    answer = {{"reason": str(error) or type(error).__name__, "missing": getattr(error, "name", None)}}
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Attempt:
    """How it went to load a package in another process.

    Attributes:
        version: Version of the package; empty when it cannot be loaded.
        reason: Why not, in words.
        missing: The package that is not installed, where that is why.
    """

    version: str = ""
    reason: str = ""
    missing: str = ""


def try_package(name: str) -> Attempt:
    """Load one of ``PACKAGES`` in a process of its own, so that one that kills its process does not kill this one."""
    path = os.pathsep.join(filter(None, sys.path))
    command = python_command(_CHILD.format(attempt=_ATTEMPTS[name]))
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, env={**os.environ, "PYTHONPATH": path}
        )
    except subprocess.TimeoutExpired:
        return Attempt(reason=f"does not load within {_SECONDS} s")
    if done.returncode < 0:
        return Attempt(reason=f"kills its process: {signal.strsignal(-done.returncode)}")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Attempt(reason=f"ends its process with status {done.returncode}")
    if "reason" not in answer:
        return Attempt(answer["version"])
    reason = " ".join(answer["reason"].split())
    if b"compiled using NumPy 1.x" in done.stderr:
        reason += f" ({COMPILED_FOR_NUMPY_1})"
    return Attempt(reason=reason, missing=answer["missing"] or "")


def check_numpy(attempt: Attempt) -> Finding:
    """Return how numpy is."""
    if attempt.version:
        return Finding("numpy", "ok", attempt.version)
    return Finding("numpy", "BROKEN", attempt.reason, f"{PIP} install --upgrade --force-reinstall numpy")


def numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
