"""How a network is run: numpy, onnxruntime and OpenCV only.

Names are imported when first used, so that ``stn --help`` is quick and a missing OpenCV is one sentence and not
a traceback.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import ImageReadError, InputError, MissingDependencyError, ModelContractError
    from .images.preprocessing import PreprocessSpec, preprocess
    from .model.classifier import Classifier, Prediction, Score
    from .model.manifest import ExportSpec, GoldenVector, Manifest, TransformerSpec
    from .model.theta_statistics import ThetaStatistics
    from .model.trust import doubt
    from .pipeline.smoothing import Smoother

_MODULES = {
    "Classifier": "model.classifier",
    "ExportSpec": "model.manifest",
    "GoldenVector": "model.manifest",
    "ImageReadError": "errors",
    "InputError": "errors",
    "Manifest": "model.manifest",
    "MissingDependencyError": "errors",
    "ModelContractError": "errors",
    "Prediction": "model.classifier",
    "PreprocessSpec": "images.preprocessing",
    "Score": "model.classifier",
    "Smoother": "pipeline.smoothing",
    "ThetaStatistics": "model.theta_statistics",
    "TransformerSpec": "model.manifest",
    "doubt": "model.trust",
    "preprocess": "images.preprocessing",
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
