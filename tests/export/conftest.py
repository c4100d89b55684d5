from dataclasses import asdict
from pathlib import Path

import onnx
import pytest
import torch

from stn_export import Deployment, Exported, export_checkpoint, export_graph, plan_export
from stn_models import Architecture, Checkpoint, save_checkpoint
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


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    described = Checkpoint(ARCHITECTURE, LABELS, asdict(SPEC), {"config": {"data": "mnist"}}, {"val_accuracy": 97.5})
    save_checkpoint(path, restless(ARCHITECTURE), described)
    return path


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_checkpoint(checkpoint, tmp_path_factory.mktemp("export") / "small.onnx", license="Apache-2.0")


@pytest.fixture(scope="session")
def split_file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A file for a target without a sampler, which takes one picture at a time."""
    return export_checkpoint(checkpoint, tmp_path_factory.mktemp("split") / "split.onnx", plan=plan_export("opencv"))


@pytest.fixture(scope="session")
def single_file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A file of one graph that takes one picture at a time."""
    return export_checkpoint(checkpoint, tmp_path_factory.mktemp("single") / "single.onnx", plan=plan_export("qnn"))


@pytest.fixture(scope="session")
def deployment() -> Deployment:
    return Deployment(restless(ARCHITECTURE), SPEC).eval()


@pytest.fixture(scope="session")
def graph(deployment: Deployment) -> onnx.ModelProto:
    return export_graph(deployment, SPEC)
