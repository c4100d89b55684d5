"""Networks as strangers write them: each is exported as it stands, and answers as in PyTorch."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from stn_export import export_onnx
from stn_runtime import InputError
from tests.support.constructs.catalogue import CONSTRUCTS
from tests.support.constructs.transformers import Rotation

pytestmark = pytest.mark.filterwarnings("ignore")  # of float64, and PyTorch's of modules written for older versions

LONG = ("kornia warp_perspective", "kornia rotate", "kornia warp_affine")
"""Ten seconds each; 'kornia homography_warp' is what they call."""
ONE_PIXEL = 2 / 64
"""Of the pictures of the construct in float16."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in CONSTRUCTS]
)
def test_a_network_as_a_stranger_writes_it_answers_as_in_pytorch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = CONSTRUCTS[name].build().eval()
    export_onnx(module, tmp_path / "m.onnx", CONSTRUCTS[name].inputs(2))
    session = ort.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    inputs = CONSTRUCTS[name].inputs(3)
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in tree_leaves(module(*inputs))]
    wanted = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    feeds = {
        value.name: tensor.numpy().astype(wanted[value.type])
        for value, tensor in zip(session.get_inputs(), inputs, strict=True)
    }
    # In float16 a coordinate between 1 and 2 is rounded to 2^-10, in x and in y, and so is the answer.
    allowed = 2 * 2**-10 / ONE_PIXEL + 2**-10 if name == "float16" else 1e-4
    for ours, theirs in zip(session.run(None, feeds), expected, strict=True):
        assert np.abs(ours.astype(np.float64) - theirs).max() <= allowed * np.abs(theirs).max()


@pytest.mark.parametrize("kind", ["traced", "scripted", "traced inside"])
def test_torchscript_is_refused_in_one_sentence(kind: str, tmp_path: Path) -> None:
    picture = torch.rand(2, 1, 16, 20)
    script = torch.jit.script(Rotation()) if kind == "scripted" else torch.jit.trace(Rotation(), picture)
    module = nn.Sequential(script, nn.ReLU()) if "inside" in kind else script
    with pytest.raises(
        InputError, match=r"is TorchScript .* export the module that it was made from, or write it"
    ) as e:
        export_onnx(module, tmp_path / "m.onnx", picture)
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_outputs_of_a_dict_keep_their_names(tmp_path: Path) -> None:
    module = CONSTRUCTS["outputs as a dict"].build()
    export_onnx(module, tmp_path / "m.onnx", torch.rand(2, 1, 16, 20))
    session = ort.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["scores", "straight"]


def test_labels_are_whole_numbers(tmp_path: Path) -> None:
    export_onnx(CONSTRUCTS["outputs as labels"].build(), tmp_path / "m.onnx", torch.rand(2, 1, 16, 20))
    session = ort.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    assert [output.type for output in session.get_outputs()] == ["tensor(int64)"]
