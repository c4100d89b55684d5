"""Modules that PyTorch people have, traced, and the layers of the graph merged."""

import getpass
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional

from stn_export import export_onnx
from stn_export.graph.rewrites import infer_shapes, merge_layers
from stn_export.pytorch import tracing
from stn_export.pytorch.tracing import TraceError, rewrite
from stn_runtime import InputError


class Tutorial(nn.Module):
    """The network of PyTorch's spatial transformer tutorial, as it stands there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)
        self.localization = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=7),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
            nn.Conv2d(8, 10, kernel_size=5),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
        )
        self.fc_loc = nn.Sequential(nn.Linear(10 * 3 * 3, 32), nn.ReLU(True), nn.Linear(32, 3 * 2))
        self.fc_loc[2].bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0], dtype=torch.float))

    def stn(self, x: Tensor) -> Tensor:
        xs = self.localization(x)
        xs = xs.view(-1, 10 * 3 * 3)
        theta = self.fc_loc(xs)
        theta = theta.view(-1, 2, 3)
        grid = functional.affine_grid(theta, x.size())
        return functional.grid_sample(x, grid)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stn(x)
        x = functional.relu(functional.max_pool2d(self.conv1(x), 2))
        x = functional.relu(functional.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 320)
        x = functional.relu(self.fc1(x))
        x = functional.dropout(x, training=self.training)
        x = self.fc2(x)
        return functional.log_softmax(x, dim=1)


class AnySize(nn.Module):
    """A transformer of pictures of any size, with PyTorch's own grid."""

    def __init__(self, corners: bool, by_keyword: bool = False) -> None:
        super().__init__()
        self.corners, self.by_keyword = corners, by_keyword
        self.localization = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.regression = nn.Linear(4, 6)
        torch.manual_seed(2)
        nn.init.normal_(self.localization[0].weight)
        nn.init.normal_(self.regression.weight, std=0.5)

    def forward(self, image: Tensor) -> Tensor:
        theta = self.regression(self.localization(image)).reshape(-1, 2, 3)
        if self.by_keyword:
            grid = functional.affine_grid(size=image.shape, theta=theta, align_corners=self.corners)
        else:
            grid = functional.affine_grid(theta, image.size(), self.corners)
        return functional.grid_sample(image, grid, align_corners=self.corners)


class Warp(nn.Module):
    """Takes theta from outside."""

    def forward(self, picture: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        grid = functional.affine_grid(affine, [picture.shape[0], 1, 6, 4], align_corners=False)
        return functional.grid_sample(picture, grid, align_corners=False), grid


def trace(module: nn.Module, example: list[Tensor], **options: object) -> onnx.ModelProto:
    """Return the graph of a module as it is shipped: traced and rewritten."""
    return rewrite(tracing.trace(module, example, **options), type(module).__name__)


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape) + shape[0]))


def run(model: onnx.ModelProto, *feeds: Tensor) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    answers: list[NDArray[np.float32]] = session.run(
        None, {name: feed.numpy() for name, feed in zip(names, feeds, strict=True)}
    )
    return answers


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [entry.dim_value or entry.dim_param for entry in value.type.tensor_type.shape.dim]


@pytest.fixture(scope="module")
def tutorial() -> Tutorial:
    torch.manual_seed(1)
    network = Tutorial().eval()
    nn.init.normal_(network.fc_loc[2].weight, std=0.3)  # an untrained one is at the identity
    return network


@pytest.fixture(scope="module")
def traced(tutorial: Tutorial) -> onnx.ModelProto:
    return trace(tutorial, [pictures(1, 1, 28, 28)], output_names=["scores"])


@pytest.fixture(scope="module", params=[False, True], ids=["edges", "corners"])
def any_size(request: pytest.FixtureRequest) -> tuple[AnySize, onnx.ModelProto]:
    module = AnySize(request.param).eval()
    return module, trace(module, [pictures(2, 1, 10, 12)], dynamic_size=True)


@pytest.fixture(scope="module")
def warp() -> onnx.ModelProto:
    return trace(Warp().eval(), [pictures(2, 1, 5, 7), torch.rand(2, 2, 3)])


# What the tutorial's network becomes


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.filterwarnings("ignore:Default grid_sample", "ignore:Default affine_grid")
def test_the_network_of_the_tutorial_answers_as_in_pytorch(
    tutorial: Tutorial, traced: onnx.ModelProto, batch: int
) -> None:
    image = pictures(batch, 1, 28, 28)
    with torch.inference_mode():
        expected = tutorial(image).numpy()
    np.testing.assert_allclose(run(traced, image)[0], expected, atol=2e-5, rtol=1e-5)


def test_the_grid_of_the_tutorial_is_one_product_and_reshapes(traced: onnx.ModelProto) -> None:
    assert kinds(traced).count("GridSample") == kinds(traced).count("MatMul") == 1
    assert not {"AffineGrid", "ReduceSum", "Mul", "Expand", "Range", "Shape", "Dropout"} & set(kinds(traced))


def test_every_relu_of_the_tutorial_stands_before_its_pool(traced: onnx.ModelProto) -> None:
    makers = {output: node for node in traced.graph.node for output in node.output}
    pools = [node for node in traced.graph.node if node.op_type == "MaxPool"]
    before = [makers[pool.input[0]] for pool in pools]
    assert [node.op_type for node in before] == ["Relu"] * 4
    assert [makers[node.input[0]].op_type for node in before] == ["Conv"] * 4


def test_the_graph_is_of_opset_18_and_the_standard_domain_alone(traced: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in traced.opset_import] == [("", 18)]
    assert not traced.functions
    onnx.checker.check_model(traced, full_check=True)


def test_no_folder_and_no_user_is_named_in_the_graph(traced: onnx.ModelProto, warp: onnx.ModelProto) -> None:
    private = [str(Path.home()), str(Path(__file__).parent), os.getcwd(), "site-packages", "dist-packages", "/root"]
    private += [f"/{Path(torch.__file__).parts[1]}/", "test_tracing", "Traceback", 'File "']
    private += [getpass.getuser()] if getpass.getuser() != "root" else []  # "root" is also a word
    for model in (traced, warp):
        found = model.SerializeToString()
        assert [text for text in private if text.encode() in found] == []


def test_inputs_have_the_names_of_forwards_arguments(traced: onnx.ModelProto, warp: onnx.ModelProto) -> None:
    assert [value.name for value in traced.graph.input] == ["x"]
    assert [value.name for value in traced.graph.output] == ["scores"]
    assert [value.name for value in warp.graph.input] == ["picture", "affine"]


def test_names_can_be_given() -> None:
    model = trace(
        Warp(), [pictures(2, 1, 5, 7), torch.rand(2, 2, 3)], input_names=["a", "b"], output_names=["c", "grid"]
    )
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["a", "b", "c", "grid"]


def test_theta_from_outside_gives_what_pytorch_gives(warp: onnx.ModelProto) -> None:
    picture, theta = pictures(3, 1, 5, 7), torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    for actual, expected in zip(run(warp, picture, theta), Warp()(picture, theta), strict=True):
        np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)


def test_only_the_batch_is_open_by_default(traced: onnx.ModelProto) -> None:
    batch, *rest = sizes(traced.graph.input[0])
    assert isinstance(batch, str)
    assert rest == [1, 28, 28]


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_is_that_of_the_example(batch: int) -> None:
    module = AnySize(corners=False).eval()
    model = trace(module, [pictures(batch, 1, 9, 8)], dynamic_batch=False)
    assert sizes(model.graph.input[0]) == [batch, 1, 9, 8]
    image = pictures(batch, 1, 9, 8)
    with torch.inference_mode():
        np.testing.assert_allclose(run(model, image)[0], module(image).numpy(), atol=1e-5)


def test_a_module_stays_as_it_was(tutorial: Tutorial, traced: onnx.ModelProto) -> None:
    assert not tutorial.training
    assert all(parameter.requires_grad for parameter in tutorial.parameters())
    before = functional.affine_grid
    assert before.__module__ == "torch.nn.functional"


# Sizes that stay open


@pytest.mark.parametrize("shape", [(2, 1, 10, 12), (1, 1, 7, 25), (3, 1, 30, 21)], ids=str)
def test_the_grid_follows_the_size_of_the_input(
    any_size: tuple[AnySize, onnx.ModelProto], shape: tuple[int, ...]
) -> None:
    module, model = any_size
    image = pictures(*shape)
    with torch.inference_mode():
        expected = module(image).numpy()
    [actual] = run(model, image)
    assert actual.shape == shape
    np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_height_and_width_are_open(any_size: tuple[AnySize, onnx.ModelProto]) -> None:
    batch, channels, height, width = sizes(any_size[1].graph.input[0])
    assert all(isinstance(size, str) for size in (batch, height, width))
    assert channels == 1


def test_a_grid_with_its_arguments_by_keyword_follows_too() -> None:
    module = AnySize(corners=False, by_keyword=True).eval()
    model = trace(module, [pictures(2, 1, 10, 12)], dynamic_size=True)
    image = pictures(1, 1, 8, 17)
    with torch.inference_mode():
        np.testing.assert_allclose(run(model, image)[0], module(image).numpy(), atol=2e-5)


@pytest.mark.parametrize("shape", [(2, 1, 1, 12), (2, 1, 12, 1)], ids=str)
def test_a_picture_one_pixel_high_or_wide_is_sampled_as_in_pytorch(shape: tuple[int, ...]) -> None:
    model = trace(Calibrated(), [pictures(2, 1, 10, 12)], dynamic_size=True)
    image = pictures(*shape)
    np.testing.assert_allclose(run(model, image)[0], Calibrated()(image).numpy(), atol=2e-5)


class Calibrated(nn.Module):
    """Warps all pictures alike."""

    def forward(self, image: Tensor) -> Tensor:
        theta = torch.tensor([[0.9, 0.1, 0.0], [-0.1, 0.9, 0.1]]).expand(image.shape[0], 2, 3)
        grid = functional.affine_grid(theta, image.shape, align_corners=True)
        return functional.grid_sample(image, grid, align_corners=True)


class ShowsItsInput(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image * 2, image


def test_an_input_that_is_an_output_too_is_refused_in_one_sentence() -> None:
    with pytest.raises(TraceError, match=r"^ShowsItsInput: returns its input 'image' as it is; leave it out$"):
        trace(ShowsItsInput(), [pictures(2, 1, 8, 10)])


class Volumes(nn.Module):
    def forward(self, volume: Tensor, theta: Tensor) -> Tensor:
        grid = functional.affine_grid(theta, list(volume.shape), align_corners=False)
        return grid * volume.mean()


def test_a_grid_of_a_volume_is_left_to_pytorch() -> None:
    feeds = [pictures(2, 1, 3, 4, 5), torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))]
    model = trace(Volumes(), feeds)
    np.testing.assert_allclose(run(model, *feeds)[0], Volumes()(*feeds).numpy(), atol=1e-5)


# Modules that cannot be traced


class FixedSize(nn.Module):
    """Adds one learned number a pixel, so it takes pictures of 8 x 10 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.rand(8, 10))

    def forward(self, image: Tensor) -> Tensor:
        return image + self.position


class Branches(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        if image.sum() > 3:
            return image * 2
        return image


class Raises(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        raise RuntimeError("the lens cap is on\nand more lines")


class FixedBatch(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.reshape(2, 80)


@pytest.mark.parametrize(
    ("module", "options", "expected"),
    [
        (FixedSize, {"dynamic_size": True}, "FixedSize: its code fixes the height of input 'image' at 8; export with"),
        (FixedBatch, {}, "FixedBatch: its code fixes the batch of input 'image' at 2; export with that size, or make"),
        (Branches, {}, "Branches: PyTorch cannot export it"),
        (Raises, {}, r"Raises: PyTorch cannot export it \(.*the lens cap is on\)"),
    ],
    ids=["size", "batch", "branches", "raises"],
)
def test_what_cannot_be_traced_is_one_sentence(
    module: Callable[[], nn.Module], options: dict[str, bool], expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TraceError, match=expected) as caught:
        trace(module().eval(), [pictures(2, 1, 8, 10)], **options)
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert capfd.readouterr().out == ""


# Layers merged


def layers(
    body: str, x: str = "float[N, 3, 9, 8] x", output: str = "float[N, M, H, W] y", **constants: object
) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> graph ({x}) => ({output}) {{ {body} }}')
    random = np.random.default_rng(3)
    used = {name for node in model.graph.node for name in node.input}
    known: dict[str, object] = {
        "mean": np.array([0.2, -0.5, 0.7], np.float32).reshape(1, 3, 1, 1),
        "std": np.array([0.3, 0.6, 2.5], np.float32).reshape(3, 1, 1),
        "one": np.float32(1.7),
        "kernel": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "bias": random.standard_normal(4).astype(np.float32),
    }
    constants = {name: value for name, value in (known | constants).items() if name in used}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def merged(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph with its layers merged, after checking that it answers as before."""
    graph = ir.from_proto(model)
    merge_layers(graph)
    result = ir.to_proto(graph)
    onnx.checker.check_model(result, full_check=True)
    feeds = []
    for value in model.graph.input:
        random = torch.Generator().manual_seed(0)
        kind = torch.float64 if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE else torch.float32
        feeds.append(
            torch.randn([d.dim_value or 2 for d in value.type.tensor_type.shape.dim], generator=random).to(kind)
        )
    for actual, expected in zip(run(result, *feeds), run(model, *feeds), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    return result


NORMALIZED = "a = Sub(x, mean) b = Div(a, std)"


@pytest.mark.parametrize("conv", ["Conv", 'Conv<auto_pad = "VALID">', "Conv<strides = [2, 2], dilations = [1, 2]>"])
@pytest.mark.parametrize("bias", ["", ", bias"])
@pytest.mark.parametrize(
    "before", [NORMALIZED, "a = Mul(x, std) b = Add(a, mean)", "a = Mul(x, one) b = Sub(a, one)", "b = Add(x, mean)"]
)
def test_scale_and_shift_vanish_in_an_unpadded_convolution(before: str, bias: str, conv: str) -> None:
    model = merged(layers(f"{before} y = {conv}(b, kernel{bias})"))
    assert kinds(model) == ["Conv"]


@pytest.mark.parametrize("attributes", ["pads = [1, 1, 1, 1]", "pads = [0, 0, 0, 2]", 'auto_pad = "SAME_UPPER"'])
def test_only_the_scale_vanishes_in_a_padded_convolution(attributes: str) -> None:
    assert kinds(merged(layers(f"{NORMALIZED} y = Conv<{attributes}>(b, kernel, bias)"))) == ["Sub", "Conv"]
    shift_last = layers(f"a = Mul(x, std) b = Add(a, mean) y = Conv<{attributes}>(b, kernel)")
    assert kinds(merged(shift_last)) == ["Mul", "Add", "Conv"]


def test_pads_of_zero_are_no_padding() -> None:
    assert kinds(merged(layers(f"{NORMALIZED} y = Conv<pads = [0, 0, 0, 0]>(b, kernel)"))) == ["Conv"]


def test_a_grouped_convolution_stays_as_it_is() -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 1, 3, 3)).astype(np.float32)
    model = layers(f"{NORMALIZED} y = Conv<group = 3>(b, kernel)", kernel=kernel)
    assert kinds(merged(model)) == ["Sub", "Div", "Conv"]


def test_a_normalised_picture_that_is_used_elsewhere_stays() -> None:
    twice = layers(f"{NORMALIZED} c = Conv(b, kernel) d = ReduceMean(b) y = Mul(c, d)")
    assert kinds(merged(twice)) == ["Sub", "Div", "Conv", "ReduceMean", "Mul"]
    shown = layers(f"{NORMALIZED} y = Conv(b, kernel)", output="float[N, M, H, W] y, float[N, 3, 9, 8] b")
    assert kinds(merged(shown)) == ["Sub", "Div", "Conv"]


def test_a_shift_that_is_shown_as_an_output_stays() -> None:
    shown = layers(f"{NORMALIZED} y = Conv(b, kernel)", output="float[N, M, H, W] y, float[N, 3, 9, 8] a")
    assert kinds(merged(shown)) == ["Sub", "Conv"]


def test_two_convolutions_with_the_same_weights_each_keep_their_own() -> None:
    body = "a = Mul(x, std) b = Conv(a, kernel) c = Div(x, std) d = Conv(c, kernel) y = Add(b, d)"
    assert sorted(kinds(merged(layers(body)))) == ["Add", "Conv", "Conv"]


@pytest.mark.parametrize("operand", [(9, 8), (1, 3, 9, 8), (3, 9, 1), (8,)], ids=str)
def test_what_is_not_one_number_a_channel_stays(operand: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).uniform(1, 2, operand).astype(np.float32)
    assert kinds(merged(layers("a = Mul(x, values) y = Conv(a, kernel)", values=values))) == ["Mul", "Conv"]


def test_a_factor_that_is_no_constant_stays() -> None:
    model = layers("a = Mul(x, factor) y = Conv(a, kernel)", "float[N, 3, 9, 8] x, float[3, 1, 1] factor")
    assert kinds(merged(model)) == ["Mul", "Conv"]


@pytest.mark.parametrize("kind", ["Sub", "Div"])
def test_a_constant_minus_or_over_the_picture_is_not_the_picture_minus_or_over_it(kind: str) -> None:
    assert kinds(merged(layers(f"a = {kind}(one, x) y = Conv(a, kernel)"))) == [kind, "Conv"]


@pytest.mark.parametrize("kind", ["Sub", "Mul"])
def test_a_gray_picture_that_the_normalisation_makes_three_channels_stays(kind: str) -> None:
    """One channel minus three means is three channels."""
    model = layers(f"a = {kind}(x, mean) y = Conv(a, kernel)", "float[N, 1, 9, 8] x")
    assert kinds(merged(model)) == [kind, "Conv"]


def test_weights_of_another_precision_keep_it() -> None:
    kernel = np.random.default_rng(0).standard_normal((4, 3, 3, 3))
    model = layers(
        "a = Mul(x, half) y = Conv(a, kernel)",
        "double[N, 3, 9, 8] x",
        "double[N, M, H, W] y",
        kernel=kernel,
        half=np.float64(0.5),
    )
    graph = ir.from_proto(model)
    merge_layers(graph)
    result = ir.to_proto(graph)
    onnx.checker.check_model(result, full_check=True)
    image = np.random.default_rng(1).standard_normal((2, 3, 9, 8))
    expected, actual = (ReferenceEvaluator(entry).run(None, {"x": image})[0] for entry in (model, result))
    assert actual.dtype == np.float64  # onnxruntime has no convolution in it
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "pool", ["kernel_shape = [2, 2]", "kernel_shape = [3, 2], strides = [2, 1], pads = [1, 1, 1, 0]"]
)
def test_relu_and_maxpool_commute_exactly(pool: str) -> None:
    model = layers(f"c = Conv(x, kernel) p = MaxPool<{pool}>(c) y = Relu(p)")
    result = merged(model)
    assert kinds(result) == ["Conv", "Relu", "MaxPool"]
    image = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(5))
    np.testing.assert_array_equal(run(result, image)[0], run(model, image)[0])


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("p = MaxPool<kernel_shape = [2, 2]>(x) y = Relu(p)", "float[N, M, H, W] y"),
        (
            "c = Conv(x, kernel) p = MaxPool<kernel_shape = [2, 2]>(c) y = Relu(p) z = Abs(p)",
            "float[N, M, H, W] y, float[N, M, H, W] z",
        ),
        (
            "c = Conv(x, kernel) p = MaxPool<kernel_shape = [2, 2]>(c) y = Relu(p) z = Abs(c)",
            "float[N, M, H, W] y, float[N, M, G, V] z",
        ),
        (
            "c = Conv(x, kernel) p, i = MaxPool<kernel_shape = [2, 2]>(c) y = Relu(p)",
            "float[N, M, H, W] y, int64[N, M, H, W] i",
        ),
        (
            "c = Conv(x, kernel) p = MaxPool<kernel_shape = [2, 2]>(c) y = Relu(p)",
            "float[N, M, H, W] y, float[N, M, H, W] p",
        ),
    ],
    ids=["no convolution", "pool used elsewhere", "convolution used elsewhere", "indices", "pool shown"],
)
def test_relu_stays_where_the_pool_is_not_behind_a_convolution_alone(body: str, output: str) -> None:
    model = layers(body, output=output)
    assert kinds(merged(model)) == kinds(model)


@pytest.mark.parametrize("level", [logging.NOTSET, logging.DEBUG, logging.ERROR])
def test_inferring_shapes_leaves_the_loggers_as_they_were(level: int) -> None:
    logger = logging.getLogger("onnx_ir")
    before = logger.level
    logger.setLevel(level)
    try:
        infer_shapes(ir.from_proto(layers("y = Conv(x, kernel)")))
        assert logger.level == level
    finally:
        logger.setLevel(before)


class Odd(nn.Module):
    """Does something with a picture that is not usual."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change, self.layer = change, nn.Linear(4, 4)

    def forward(self, image: Tensor) -> Tensor:
        """Return features."""
        features: Tensor = self.layer(self.change(image))
        return features


def test_a_module_that_changes_its_input_is_exported_and_the_example_stays(tmp_path: Path) -> None:
    example = torch.rand(2, 4)
    before = example.clone()
    export_onnx(Odd(lambda image: image.mul_(2)), tmp_path / "m.onnx", example)
    assert torch.equal(example, before)


def test_a_branch_on_data_is_one_sentence_and_nothing_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="Odd: PyTorch cannot export it"):
        export_onnx(Odd(lambda image: image * 2 if image.sum() > 0 else image), tmp_path / "m.onnx", torch.rand(2, 4))
    assert capsys.readouterr() == ("", "")


def test_a_type_without_an_operator_in_onnxruntime_is_said_with_what_to_do(tmp_path: Path) -> None:
    module = Odd(lambda image: image)
    module.forward = torch.autocast("cpu", torch.bfloat16)(module.forward)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"Odd: onnxruntime cannot load its graph .* in float32, without autocast"):
        export_onnx(module, tmp_path / "m.onnx", torch.rand(2, 4))
