"""How a network is trained: data sets, distortions, the training loop, evaluation."""

from .config import TrainConfig
from .data.datasets import load_dataset
from .data.distortions import DISTORTIONS, distort
from .data.labelled_images import LabelledImages
from .evaluation.accuracy import Report, evaluate, load_test_images, open_subject
from .fit import Result, fit

__all__ = [
    "DISTORTIONS",
    "LabelledImages",
    "Report",
    "Result",
    "TrainConfig",
    "distort",
    "evaluate",
    "fit",
    "load_dataset",
    "load_test_images",
    "open_subject",
]
