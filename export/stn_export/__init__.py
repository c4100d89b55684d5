"""How a network leaves PyTorch: one ONNX file, proven to be the same network."""

from .deployment import Deployment, describe_transformers
from .exporter import OPSET, Exported, ParityError, export_checkpoint, export_graph
from .verification import Parity, compare, verify

__all__ = [
    "OPSET",
    "Deployment",
    "Exported",
    "Parity",
    "ParityError",
    "compare",
    "describe_transformers",
    "export_checkpoint",
    "export_graph",
    "verify",
]
