from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from stn_export import Deployment, Exported, export_checkpoint, export_graph, plan_export
from stn_export.proof.reference import Reference, pytorch_reference
from stn_models import Checkpoint, save_checkpoint
from tests.support.operator_table import operator_table_made_once  # noqa: F401  (a fixture)
from tests.support.small_network import ARCHITECTURE, LABELS, SPEC, restless


@pytest.fixture(scope="session", autouse=True)
def _on_one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and lose a factor of ten to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


@pytest.fixture(scope="session")
def reference(deployment: Deployment) -> Reference:
    """PyTorch's answers of ``deployment``, for every graph that is compared with it."""
    return pytorch_reference(deployment, SPEC, np.empty((0, 28, 28, 1), np.uint8))
