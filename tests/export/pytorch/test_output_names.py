"""Names of outputs, as modules give them."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import torch
from torch import Tensor, nn

from stn_export import export_onnx
from stn_export.pytorch.output_names import names_of_outputs
from stn_runtime import InputError


class Found(NamedTuple):
    """Scores, and boxes of two sizes."""

    scores: Tensor
    boxes: list[Tensor]


class Answers(nn.Module):
    """Answers an image in a form of its own."""

    def __init__(self, answer: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, image: Tensor) -> object:
        """Return the answer."""
        return self.answer(image * 2)


FORMS: dict[str, tuple[Callable[[Tensor], object], list[str] | None]] = {
    "tensor": (lambda x: x, None),
    "tuple": (lambda x: (x, x + 1), None),
    "dict": (lambda x: {"b": x, "a": x + 1}, ["b", "a"]),
    "ordered": (lambda x: OrderedDict(z=x, y=x + 1), ["z", "y"]),
    "named tuple": (lambda x: Found(x, [x + 1, x + 2]), ["scores", "boxes.0", "boxes.1"]),
    "inside one another": (lambda x: {"logits": x, "aux": {"theta": x + 1}}, ["logits", "aux.theta"]),
    "as an input": (lambda x: {"image": x, "other": x + 1}, ["image_out", "other"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_are_named_in_the_order_in_which_they_are_returned(form: str, tmp_path: Path) -> None:
    answer, expected = FORMS[form]
    image = torch.rand(2, 3)
    assert names_of_outputs(Answers(answer), [image], ["image"]) == expected
    export_onnx(Answers(answer), tmp_path / "m.onnx", image)
    model = onnx.load(tmp_path / "m.onnx")
    if expected is not None:
        assert [output.name for output in model.graph.output] == expected


def test_names_that_are_given_come_first(tmp_path: Path) -> None:
    export_onnx(Answers(FORMS["dict"][0]), tmp_path / "m.onnx", torch.rand(2, 3), output_names=["one", "two"])
    assert [output.name for output in onnx.load(tmp_path / "m.onnx").graph.output] == ["one", "two"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: None, "Answers returns no tensor;"),
        (lambda x: {"a": x, "count": 3}, r"Answers returns something that is no tensor \(int\);"),
        (lambda x: "label", r"Answers returns something that is no tensor \(str\);"),
    ],
)
def test_what_is_no_tensor_is_one_sentence(answer: Callable[[Tensor], object], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        export_onnx(Answers(answer), tmp_path / "m.onnx", torch.rand(2, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_does_not_run_has_no_names() -> None:
    assert names_of_outputs(Answers(lambda x: {"a": x.nothing}), [torch.rand(2, 3)], ["image"]) is None
