"""How a network leaves PyTorch: one ONNX file, fast on its target, proven to be the same network."""

from stn_runtime.parity import Parity

from .deployment import Deployment, describe_transformers
from .exporter import Card, Exported, export_checkpoint, export_classifier, export_graph, export_onnx
from .gates import Gate, GateError, TestSet
from .optimizer import DifferenceError, Optimized, optimize_onnx
from .splitting import classifier_graph
from .targets import TARGETS, Plan, Target, plan_export
from .theta import copy_theta
from .verification import ParityError, Verification, verify

__all__ = [
    "TARGETS",
    "Card",
    "Deployment",
    "DifferenceError",
    "Exported",
    "Gate",
    "GateError",
    "Optimized",
    "Parity",
    "ParityError",
    "Plan",
    "Target",
    "TestSet",
    "Verification",
    "classifier_graph",
    "copy_theta",
    "describe_transformers",
    "export_checkpoint",
    "export_classifier",
    "export_graph",
    "export_onnx",
    "optimize_onnx",
    "plan_export",
    "verify",
]
