"""How a network is run: numpy, onnxruntime and OpenCV only.

Names are imported when first used, so that ``stn --help`` is quick and a missing OpenCV is one sentence and not
a traceback.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .classifier import Classifier, Prediction, Score
    from .errors import ImageReadError, InputError, MissingDependencyError, ModelContractError
    from .manifest import ExportSpec, GoldenVector, Manifest, TransformerSpec
    from .preprocessing import PreprocessSpec, preprocess
    from .steadiness import Smoother, doubt
    from .theta import ThetaStatistics

# Read by onnxruntime when it loads: from 1.29 on it would report to Microsoft (onnxruntime#27379).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_MODULES = {
    "Classifier": "classifier",
    "ExportSpec": "manifest",
    "GoldenVector": "manifest",
    "ImageReadError": "errors",
    "InputError": "errors",
    "Manifest": "manifest",
    "MissingDependencyError": "errors",
    "ModelContractError": "errors",
    "Prediction": "classifier",
    "PreprocessSpec": "preprocessing",
    "Score": "classifier",
    "Smoother": "steadiness",
    "ThetaStatistics": "theta",
    "TransformerSpec": "manifest",
    "doubt": "steadiness",
    "preprocess": "preprocessing",
}

__all__ = [
    "Classifier",
    "ExportSpec",
    "GoldenVector",
    "ImageReadError",
    "InputError",
    "Manifest",
    "MissingDependencyError",
    "ModelContractError",
    "Prediction",
    "PreprocessSpec",
    "Score",
    "Smoother",
    "ThetaStatistics",
    "TransformerSpec",
    "doubt",
    "preprocess",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
