"""How a network leaves PyTorch: one ONNX file, fast on its target, proven to be the same network."""

from stn_runtime.model.parity import Parity

from .card import Card
from .exporter import Exported, export_checkpoint, export_classifier
from .forms.splitting import classifier_graph
from .forms.targets import TARGETS, Plan, Target, plan_export
from .graph.deployment import Deployment, describe_transformers
from .graph_comparison import DifferenceError
from .module_exporter import export_onnx
from .network_graph import export_graph
from .optimizer import Optimized, optimize_onnx
from .proof.gates import Gate, GateError, TestSet
from .proof.verification import ParityError, Verification, verify
from .theta_lookup import copy_theta

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
