"""How a network is run: pictures, videos and cameras classified with numpy, onnxruntime and OpenCV only.

Importing this has no effect on the process. Names are imported when first used, so that ``stn --help`` is quick and
a missing OpenCV is one sentence and not a traceback.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cluster.batch_classifier import BatchClassifier
    from .errors import ImageReadError, InputError, MissingDependencyError, ModelContractError
    from .images.preprocessing import PreprocessSpec, preprocess
    from .model.classifier import Classifier, Prediction, Score
    from .model.doubt import doubt
    from .model.manifest import ExportSpec, GoldenVector, Manifest, TransformerSpec
    from .model.theta_statistics import ThetaStatistics
    from .pipeline.pipeline import classify
    from .pipeline.smoothing import Smoother
    from .records.record import Record
    from .records.results_file import ResultsFile
    from .records.writers import Csv, JsonLines, RecordWriter
    from .sources.captures import CameraOptions
    from .sources.frame import Frame, Selection
    from .sources.opening import open_source
    from .sources.source import Source
    from .views.view import View

_MODULES = {
    "BatchClassifier": "cluster.batch_classifier",
    "CameraOptions": "sources.captures",
    "Classifier": "model.classifier",
    "Csv": "records.writers",
    "ExportSpec": "model.manifest",
    "Frame": "sources.frame",
    "GoldenVector": "model.manifest",
    "ImageReadError": "errors",
    "InputError": "errors",
    "JsonLines": "records.writers",
    "Manifest": "model.manifest",
    "MissingDependencyError": "errors",
    "ModelContractError": "errors",
    "Prediction": "model.classifier",
    "PreprocessSpec": "images.preprocessing",
    "Record": "records.record",
    "RecordWriter": "records.writers",
    "ResultsFile": "records.results_file",
    "Score": "model.classifier",
    "Selection": "sources.frame",
    "Smoother": "pipeline.smoothing",
    "Source": "sources.source",
    "ThetaStatistics": "model.theta_statistics",
    "TransformerSpec": "model.manifest",
    "View": "views.view",
    "classify": "pipeline.pipeline",
    "doubt": "model.doubt",
    "open_source": "sources.opening",
    "preprocess": "images.preprocessing",
}

__all__ = [
    "BatchClassifier",
    "CameraOptions",
    "Classifier",
    "Csv",
    "ExportSpec",
    "Frame",
    "GoldenVector",
    "ImageReadError",
    "InputError",
    "JsonLines",
    "Manifest",
    "MissingDependencyError",
    "ModelContractError",
    "Prediction",
    "PreprocessSpec",
    "Record",
    "RecordWriter",
    "ResultsFile",
    "Score",
    "Selection",
    "Smoother",
    "Source",
    "ThetaStatistics",
    "TransformerSpec",
    "View",
    "classify",
    "doubt",
    "open_source",
    "preprocess",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
