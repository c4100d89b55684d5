"""Modules as people keep them: compiled, data-parallel, averaged, in double precision, in training mode."""

from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from stn_export import export_onnx
from stn_export.pytorch.plain_modules import plain_module


class Net(nn.Module):
    """A convolution, a dropout, and a part of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop, self.part = nn.Conv2d(1, 2, 3), nn.Dropout(0.5), nn.Linear(4, 4)

    def forward(self, image: Tensor) -> Tensor:
        """Return features of an image."""
        features: Tensor = self.part(self.drop(self.conv(image)))
        return features


IMAGE = torch.rand(2, 1, 6, 6)

WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "averaged": AveragedModel,
    "compiled": lambda net: torch.compile(net, backend="eager"),
    "compiled in DataParallel": lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_a_wrapper_holds_is_exported(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net().eval()
    with torch.no_grad():
        expected = net(IMAGE).numpy()
    export_onnx(WRAPPERS[name](net), tmp_path / "m.onnx", IMAGE)
    session = ort.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["image"]
    [actual] = session.run(None, {"image": IMAGE.numpy()})
    assert abs(actual - expected).max() <= 1e-5


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapped_part_is_unwrapped_and_afterwards_what_it_was(name: str) -> None:
    net = Net()
    net.part = WRAPPERS[name](net.part)
    whole = nn.Sequential(net).train()
    net.drop.eval()
    part = net.part
    with plain_module(whole) as plain:
        assert plain is whole
        assert type(net.part) is nn.Linear
        assert not any(module.training for module in plain.modules())
    assert net.part is part
    assert net.training
    assert not net.drop.training


def test_all_is_as_it_was_after_an_error() -> None:
    net = Net().double().train()
    with pytest.warns(UserWarning, match="Net is in float64"), pytest.raises(KeyError), plain_module(net):
        raise KeyError
    assert net.training
    assert net.conv.weight.dtype == torch.float64


@pytest.mark.parametrize(("dtype", "word"), [(torch.float64, "float64"), (torch.bfloat16, "bfloat16")])
def test_a_module_in_a_type_that_no_engine_takes_is_exported_in_float32_with_a_word(
    dtype: torch.dtype, word: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = Net().to(dtype)
    with pytest.warns(UserWarning, match=rf"Net is in {word}, in which onnxruntime has .* it is exported in float32"):
        export_onnx(net, tmp_path / "m.onnx", IMAGE.to(dtype))
    assert {tensor.dtype for tensor in net.parameters()} == {dtype}
    session = ort.InferenceSession((tmp_path / "m.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    [actual] = session.run(None, {"image": IMAGE.to(dtype).float().numpy()})
    with torch.no_grad():
        exact = net.eval().double()(IMAGE.to(dtype).double()).numpy()
    assert abs(actual - exact).max() <= 1e-5


def test_buffers_in_float64_of_a_module_in_float32_stay() -> None:
    net = Net()
    net.register_buffer("exact", torch.zeros(3, dtype=torch.float64))
    with plain_module(net):
        assert net.exact.dtype == torch.float64
