"""How a network is run: numpy, onnxruntime and OpenCV only.

Names are imported when first used, so that ``stn --help`` is quick and a missing OpenCV is one sentence, not a traceback.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import ImageReadError, InputError, MissingDependencyError, ModelContractError
    from .manifest import ExportSpec, GoldenVector, Manifest, TransformerSpec
    from .preprocessing import PreprocessSpec, preprocess

_MODULES = {
    "ExportSpec": "manifest",
    "GoldenVector": "manifest",
    "ImageReadError": "errors",
    "InputError": "errors",
    "Manifest": "manifest",
    "MissingDependencyError": "errors",
    "ModelContractError": "errors",
    "PreprocessSpec": "preprocessing",
    "TransformerSpec": "manifest",
    "preprocess": "preprocessing",
}

__all__ = [
    "ExportSpec",
    "GoldenVector",
    "ImageReadError",
    "InputError",
    "Manifest",
    "MissingDependencyError",
    "ModelContractError",
    "PreprocessSpec",
    "TransformerSpec",
    "preprocess",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
