"""A small st-cnn whose theta depends on the picture, for the tests of the export."""

import torch

from stn_models import Architecture
from stn_runtime import PreprocessSpec

SPEC = PreprocessSpec(28, 28, 1, "letterbox")
ARCHITECTURE = Architecture("st-cnn", {"image_size": 28, "width": 8, "mean": [0.1], "std": [0.3]})
LABELS = tuple("0123456789")


def restless(architecture: Architecture) -> torch.nn.Module:
    """Return a network whose theta depends on the picture, unlike a freshly initialised one."""
    torch.manual_seed(3)
    model = architecture.build().eval()
    torch.nn.init.normal_(model.transformer.localization.regression.weight, std=0.3)
    return model
