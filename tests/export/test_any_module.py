"""``export_onnx``: modules of others, with their own forward, exported fast and equal."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from stn_export import Card, ParityError, export_onnx, plan_export
from stn_runtime import Classifier, InputError, PreprocessSpec

PORTABLE = plan_export(form="portable")


class Tutorial(nn.Module):
    """A network as PyTorch's tutorial on spatial transformers builds it: affine_grid in its own forward."""

    def __init__(self, align_corners: bool = False, out: tuple[int, int] = (28, 28)) -> None:
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(1, 8, 7), nn.MaxPool2d(2), nn.ReLU(True), nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU(True)
        )
        self.regression = nn.Sequential(nn.Linear(90, 32), nn.ReLU(True), nn.Linear(32, 6))
        self.features = nn.Sequential(nn.Conv2d(1, 10, 5), nn.AdaptiveAvgPool2d(4))
        self.head = nn.Linear(160, 10)
        self.align_corners, self.out = align_corners, out

    def warped(self, x: Tensor) -> Tensor:
        theta = self.regression(self.localization(x).view(-1, 90)).view(-1, 2, 3)
        size = [x.size(0), 1, *self.out]
        grid = functional.affine_grid(theta, size, align_corners=self.align_corners)
        return functional.grid_sample(x, grid, align_corners=self.align_corners)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.features(self.warped(x))).flatten(1)
        return functional.log_softmax(self.head(functional.dropout(x, training=self.training)), dim=1)


class Series(Tutorial):
    """Two transformers, the second on what the first made."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.warped(x))


class Plates(nn.Module):
    """A transformer in front of a recogniser: a plate 94 x 24 RGB to (N, characters, positions)."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d((2, 8)), nn.Flatten())
        self.theta = nn.Linear(128, 6)
        self.recognise = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d((2, 1)), nn.Conv2d(16, 37, 3))

    def forward(self, plate: Tensor) -> dict[str, Tensor]:
        theta = self.theta(self.locate(plate)).view(-1, 2, 3)
        grid = functional.affine_grid(theta, list(plate.size()), align_corners=True)
        straight = functional.grid_sample(plate, grid, align_corners=True, padding_mode="border")
        return {"characters": self.recognise(straight).mean(dim=2), "straight": straight}


class Features(nn.Module):
    """A transformer on feature maps, and a second input that it does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.theta = nn.Linear(6, 6)

    def forward(self, image: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        maps = functional.relu(self.stem(image))
        theta = self.theta(maps.mean((2, 3))).view(-1, 2, 3)
        grid = functional.affine_grid(theta, list(maps.shape), align_corners=False)
        return functional.grid_sample(maps, grid, align_corners=False) + bias[:, :, None, None], theta


MODULES: dict[str, tuple[Callable[[], nn.Module], list[tuple[int, ...]], int]] = {
    "tutorial": (Tutorial, [(1, 1, 28, 28)], 1),
    "align_corners": (lambda: Tutorial(align_corners=True), [(2, 1, 28, 28)], 1),
    "other output size": (lambda: Tutorial(out=(20, 12)), [(2, 1, 28, 28)], 1),
    "series": (Series, [(2, 1, 28, 28)], 2),
    "plates": (Plates, [(2, 3, 24, 94)], 1),
    "feature maps": (Features, [(2, 3, 17, 23), (2, 6)], 1),
}


def built(name: str) -> tuple[nn.Module, list[Tensor], int]:
    torch.manual_seed(0)
    make, shapes, samplers = MODULES[name]
    return make().eval(), [torch.rand(*shape) for shape in shapes], samplers


def answers(module: nn.Module, inputs: list[Tensor]) -> list[np.ndarray]:
    with torch.no_grad():
        found = module(*inputs)
    found = list(found.values()) if isinstance(found, dict) else found
    return [tensor.numpy() for tensor in (found if isinstance(found, list | tuple) else [found])]


@pytest.mark.parametrize(
    ("name", "form"),
    [*((name, "fused") for name in MODULES), *((name, "portable") for name in ("tutorial", "plates", "feature maps"))],
)
def test_a_module_with_its_own_forward_answers_as_in_pytorch(name: str, form: str, tmp_path: Path) -> None:
    module, example, samplers = built(name)
    differences = export_onnx(module, tmp_path / "m.onnx", example, plan=plan_export("cpu", form=form))
    assert max(differences.values()) < 1e-4
    counts = Counter(node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node)
    assert counts["GridSample"] == (samplers if form == "fused" else 0)
    assert not {"AffineGrid", "ReduceSum"} & set(counts)
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    inputs = [torch.rand(5, *tensor.shape[1:], generator=torch.Generator().manual_seed(7)) for tensor in example]
    feeds = {entry.name: tensor.numpy() for entry, tensor in zip(session.get_inputs(), inputs, strict=True)}
    for expected, actual in zip(answers(module, inputs), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_inputs_and_outputs_have_other_names_on_request(tmp_path: Path) -> None:
    module, example, _ = built("feature maps")
    export_onnx(module, tmp_path / "m.onnx", example, input_names=["a", "b"], output_names=["c", "d"])
    graph = onnx.load(tmp_path / "m.onnx").graph
    assert [value.name for value in [*graph.input, *graph.output]] == ["a", "b", "c", "d"]


def test_batch_and_size_are_open_as_asked(tmp_path: Path) -> None:
    module, _, _ = built("feature maps")
    example = [torch.rand(2, 3, 17, 23), torch.rand(2, 6)]
    export_onnx(module, tmp_path / "fixed.onnx", example, dynamic_batch=False)
    export_onnx(module, tmp_path / "open.onnx", example, dynamic_size=True)
    fixed, opened = (
        ort.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        for name in ("fixed.onnx", "open.onnx")
    )
    assert [entry.shape for entry in fixed.get_inputs()] == [[2, 3, 17, 23], [2, 6]]
    assert [isinstance(size, str) for size in opened.get_inputs()[0].shape] == [True, False, True, True]
    inputs = [torch.rand(3, 3, 40, 31), torch.rand(3, 6)]
    expected = answers(module, inputs)
    actual = opened.run(None, {"image": inputs[0].numpy(), "bias": inputs[1].numpy()})
    np.testing.assert_allclose(actual[0], expected[0], atol=1e-4)


def test_a_module_in_training_mode_is_exported_in_evaluation_mode_and_left_as_it_was(tmp_path: Path) -> None:
    module, example, _ = built("tutorial")
    module.train()
    export_onnx(module, tmp_path / "m.onnx", example)
    assert all(part.training for part in module.modules())
    assert "Dropout" not in {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}


def test_with_a_card_it_is_a_model_file_that_the_runtime_runs(tmp_path: Path) -> None:
    module, _, _ = built("tutorial")
    card = Card("mine", tuple("0123456789"), PreprocessSpec(28, 28, 1))
    export_onnx(module, tmp_path / "m.onnx", torch.rand(1, 1, 28, 28), card=card)
    picture = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    [expected] = answers(module, [torch.from_numpy(picture)[None, None] / 255])
    prediction = Classifier(tmp_path / "m.onnx").predict(picture)
    assert prediction.confidence == pytest.approx(float(np.exp(expected.max())), abs=1e-4)
    assert prediction.label == str(expected.argmax())


class TracedOtherwise(Features):
    """A network whose graph samples the nearest pixel, while the module itself is bilinear."""

    def forward(self, image: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        maps = functional.relu(self.stem(image))
        theta = self.theta(maps.mean((2, 3))).view(-1, 2, 3)
        grid = functional.affine_grid(theta, list(maps.shape), align_corners=False)
        mode = "nearest" if torch.compiler.is_compiling() else "bilinear"
        return functional.grid_sample(maps, grid, mode, align_corners=False) + bias[:, :, None, None], theta


def test_a_graph_that_differs_leaves_no_file(tmp_path: Path) -> None:
    _, example, _ = built("feature maps")
    with pytest.raises(ParityError, match=r"differs from PyTorch in sampled image '.*' by .*; nothing was written"):
        export_onnx(TracedOtherwise(), tmp_path / "m.onnx", example)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"form": "split"}, "the split form needs a classifier with a manifest: give a card"),
        ({"precision": "float16"}, r"float16 is judged on labelled images: use export_classifier\(data=\.\.\.\)"),
    ],
)
def test_split_needs_a_card_and_reduced_precision_needs_data(
    arguments: dict[str, str], message: str, tmp_path: Path
) -> None:
    module, example, _ = built("tutorial")
    with pytest.raises(InputError, match=message):
        export_onnx(module, tmp_path / "m.onnx", example, plan=plan_export("cpu", **arguments))
    assert list(tmp_path.iterdir()) == []


def test_volumes_have_no_portable_form(tmp_path: Path) -> None:
    class Volumes(nn.Module):
        def forward(self, volume: Tensor) -> Tensor:
            grid = functional.affine_grid(torch.eye(3, 4)[None].expand(len(volume), 3, 4), list(volume.shape))
            return functional.grid_sample(volume, grid)

    with pytest.raises(InputError, match=r"only images \(4-D\) have a portable form"):
        export_onnx(Volumes(), tmp_path / "m.onnx", torch.rand(2, 1, 3, 4, 5), dynamic_batch=False, plan=PORTABLE)


class OneForAll(nn.Module):
    """Takes one theta for a batch of four."""

    def forward(self, image: Tensor, theta: Tensor) -> Tensor:
        grid = functional.affine_grid(theta, [1, *image.shape[1:]], align_corners=False)
        return functional.grid_sample(image, grid.expand(4, -1, -1, -1), align_corners=False)


class Masked(nn.Module):
    """Warps pictures and their masks alike, as one batch."""

    def forward(self, image: Tensor, mask: Tensor, theta: Tensor) -> Tensor:
        grid = functional.affine_grid(theta, list(image.shape), align_corners=True)
        return functional.grid_sample(torch.cat([image, mask]), grid.repeat(2, 1, 1, 1), align_corners=True)


@pytest.mark.parametrize(
    ("module", "shapes", "dynamic"),
    [
        (OneForAll, [(4, 1, 9, 7), (1, 2, 3)], False),
        (Masked, [(3, 1, 9, 7), (3, 1, 9, 7), (3, 2, 3)], True),
    ],
)
def test_a_grid_that_serves_several_pictures_is_exported_right(
    module: Callable[[], nn.Module], shapes: list[tuple[int, ...]], dynamic: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(shape) for shape in shapes]
    export_onnx(module(), tmp_path / "m.onnx", inputs, dynamic_batch=dynamic)
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    feeds = {entry.name: tensor.numpy() for entry, tensor in zip(session.get_inputs(), inputs, strict=True)}
    np.testing.assert_allclose(session.run(None, feeds)[0], answers(module(), inputs)[0], atol=1e-5)


def test_the_portable_form_of_opset_13_follows_the_size_of_its_input(tmp_path: Path) -> None:
    module, example, _ = built("feature maps")
    export_onnx(module, tmp_path / "m.onnx", example, dynamic_size=True, plan=PORTABLE)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import] == [13]
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for size in ((40, 31), (9, 12)):
        inputs = [torch.rand(3, 3, *size), torch.rand(3, 6)]
        actual = session.run(None, {"image": inputs[0].numpy(), "bias": inputs[1].numpy()})
        for expected, found in zip(answers(module, inputs), actual, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)


class BeforeConvolution(nn.Module):
    """A convolution of other than images, behind a scale or a shift."""

    def __init__(self, convolution: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution, self.change = convolution, change

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(self.change(x))


@pytest.mark.parametrize(
    ("convolution", "change", "shape"),
    [(nn.Conv1d, lambda x: x * 0.5, (2, 3, 8)), (nn.Conv3d, lambda x: x + 1, (2, 3, 5, 6, 7))],
    ids=["conv1d", "conv3d"],
)
def test_scale_and_shift_before_a_convolution_of_sequences_or_volumes_are_exported_right(
    convolution: Callable[..., nn.Module], change: Callable[[Tensor], Tensor], shape: tuple[int, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module, x = BeforeConvolution(convolution(3, 4, 3), change), torch.rand(shape)
    export_onnx(module, tmp_path / "m.onnx", x)
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], answers(module, [x])[0], atol=1e-5)


def test_an_example_that_requires_a_gradient_is_taken_and_left_as_it_is(tmp_path: Path) -> None:
    module, example = OneForAll(), [torch.rand(4, 1, 9, 7, requires_grad=True), torch.rand(1, 2, 3)]
    assert max(export_onnx(module, tmp_path / "m.onnx", example, dynamic_batch=False).values()) < 1e-5
    assert example[0].requires_grad


def test_a_module_on_another_device_is_one_sentence(tmp_path: Path) -> None:
    module = Tutorial().to("meta")
    with pytest.raises(InputError, match=r"^Tutorial is on meta; move it to the CPU first: module\.cpu\(\)$"):
        export_onnx(module, tmp_path / "m.onnx", torch.rand(1, 1, 28, 28))
    assert list(tmp_path.iterdir()) == []


class Broken(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(value))

    def forward(self, image: Tensor) -> Tensor:
        return functional.grid_sample(image, functional.affine_grid(torch.eye(2, 3)[None], [1, 1, 4, 4])) * self.scale


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_not_finite_prove_nothing(value: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PyTorch's own '.*' is NaN or infinite everywhere"):
        export_onnx(Broken(value), tmp_path / "x.onnx", torch.rand(1, 1, 8, 8) + 0.1, dynamic_batch=False)
    assert not (tmp_path / "x.onnx").exists()


def test_a_module_in_half_precision_is_held_to_its_own_rounding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).half().eval()
    differences = export_onnx(network, tmp_path / "x.onnx", torch.rand(2, 1, 8, 8).half())
    assert max(differences.values()) < 2e-2
    found = ort.InferenceSession(tmp_path / "x.onnx").get_inputs()[0].type
    assert found == "tensor(float16)"


class Two(nn.Module):
    def forward(self, image: Tensor, scale: Tensor) -> Tensor:
        return image * scale


def test_inputs_of_different_batches_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^Two: its inputs have 1 and 3 elements along their first axis, which is to be"
    ):
        export_onnx(Two(), tmp_path / "x.onnx", (torch.rand(3, 1, 4, 4), torch.rand(1)))


@pytest.mark.parametrize(
    ("module", "name", "example", "message"),
    [
        (abs, "x.onnx", torch.rand(1), "a torch.nn.Module is exported, this is a builtin_function_or_method"),
        (nn.ReLU(), "x.pt", torch.rand(1), "x.pt: the output must end in .onnx"),
        (nn.ReLU(), "x.onnx", np.zeros(3, np.float32), "the example must be a tensor, or several"),
        (nn.ReLU(), "x.onnx", (), "the example must be a tensor, or several"),
    ],
)
def test_what_is_no_module_no_file_or_no_tensor_is_one_sentence(
    module: object, name: str, example: object, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        export_onnx(module, tmp_path / name, example)  # type: ignore[arg-type]


def test_as_many_output_names_as_outputs_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ReLU: has 1 outputs, 2 output_names are given"):
        export_onnx(nn.ReLU(), tmp_path / "x.onnx", torch.rand(2, 3), output_names=["a", "b"])
