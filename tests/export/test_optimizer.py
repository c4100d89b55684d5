"""Files that PyTorch's two exporters and people's own grids make, through ``optimize_onnx``."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from stn_export import DifferenceError, Optimized, optimize_onnx
from stn_export.forms.targets import find_target
from stn_export.graph import grid_products
from stn_export.graph.sampling_grids import LinearGrid
from stn_export.graph_comparison import compare_graphs
from stn_export.linting import lint
from stn_runtime import InputError, ModelContractError

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning"
)

RELATIVE = 1e-5  # of the largest value
SIZE = (11, 13)  # height and width of the pictures
OUT = (9, 7)  # of what is sampled

Grid = Callable[[Tensor, Tensor, tuple[int, int], bool], Tensor]


def base(out: tuple[int, int], align_corners: bool) -> Tensor:
    """Return the homogeneous coordinates of all pixels, (height * width, 3)."""
    axes = [torch.linspace(-1, 1, size) if align_corners else (torch.arange(size) * 2 + 1) / size - 1 for size in out]
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)


def by_affine_grid(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    return functional.affine_grid(theta, [image.shape[0], image.shape[1], *out], align_corners=corners)


def by_affine_grid_of_the_image(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    return functional.affine_grid(theta, list(image.shape), align_corners=corners)


def by_einsum(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    return torch.einsum("nij,pj->npi", theta, base(out, corners)).reshape(-1, *out, 2)


def by_bmm(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    bases = base(out, corners)[None].expand(theta.shape[0], -1, -1)
    return torch.bmm(bases, theta.transpose(1, 2)).reshape(-1, *out, 2)


def from_the_left(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    return (theta @ base(out, corners).T).permute(0, 2, 1).reshape(-1, *out, 2)


def by_homography(theta: Tensor, image: Tensor, out: tuple[int, int], corners: bool) -> Tensor:
    tilt = torch.tensor([[[0.1, -0.2, 1.0]]]).expand(theta.shape[0], 1, 3) * theta[:, :1, :1].abs()
    points = base(out, corners) @ torch.cat([theta, tilt], dim=1).transpose(1, 2)
    return (points[..., :2] / (points[..., 2:].abs() + 0.5)).reshape(-1, *out, 2)


def full(values: Tensor) -> Tensor:
    return values.reshape(-1, 2, 3)


def residual(values: Tensor) -> Tensor:
    return torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) + values.reshape(-1, 2, 3)


def attention_by_cat(values: Tensor) -> Tensor:
    scale, x, y = values[:, 0:1], values[:, 1:2], values[:, 2:3]
    zero = torch.zeros_like(scale)
    return torch.cat([scale, zero, x, zero, scale, y], dim=1).reshape(-1, 2, 3)


def attention_by_stack(values: Tensor) -> Tensor:
    scale, x, y = values[:, 0], values[:, 1], values[:, 2]
    zero = torch.zeros_like(scale)
    return torch.stack([torch.stack([scale, zero, x], dim=1), torch.stack([zero, scale, y], dim=1)], dim=1)


def rotation(values: Tensor) -> Tensor:
    cos, sin = torch.cos(values[:, 0]), torch.sin(values[:, 0])
    return torch.stack([cos, -sin, values[:, 1], sin, cos, values[:, 2]], dim=1).reshape(-1, 2, 3)


class Transformer(nn.Module):
    """The spatial transformer of somebody's repository: theta from the picture, a grid, the sampler."""

    def __init__(
        self,
        grid: Grid = by_affine_grid,
        theta: Callable[[Tensor], Tensor] = full,
        numbers: int = 6,
        channels: int = 1,
        size: tuple[int, int] = SIZE,
        out: tuple[int, int] = OUT,
        corners: bool = False,
        padding: str = "zeros",
        mode: str = "bilinear",
    ) -> None:
        super().__init__()
        self.grid, self.theta, self.out = grid, theta, out
        self.corners, self.padding, self.mode = corners, padding, mode
        cells = (size[0] // 4) * (size[1] // 4)
        self.localization = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(channels * cells, numbers))
        generator = torch.Generator().manual_seed(4)
        for parameter in self.localization.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5

    def forward(self, image: Tensor) -> Tensor:
        theta = self.theta(self.localization(image))
        grid = self.grid(theta, image, self.out, self.corners)
        return functional.grid_sample(
            image, grid, mode=self.mode, padding_mode=self.padding, align_corners=self.corners
        )


class OnFeatures(nn.Module):
    """A transformer behind a convolution, and a classifier behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
        self.transformer = Transformer(channels=3, size=(9, 11), out=(5, 6))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(90, 4))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.transformer(self.features(image)))


class FollowsTheSize(Transformer):
    """A transformer that takes pictures of any size and samples as many pixels as it was given."""

    def __init__(self) -> None:
        super().__init__(by_affine_grid_of_the_image)
        self.localization = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 6))


@dataclass(frozen=True)
class Recipe:
    """How a file comes about, and the operators that each of its grids is made of afterwards."""

    network: Callable[[], nn.Module]
    opset: int
    by_torchscript: bool = False
    fixed_batch: bool = False
    channels: int = 1
    steps: list[list[str]] = field(default_factory=lambda: [["MatMul", "Reshape"]])


CLIPPED = [["MatMul", "Max", "Min", "Reshape"]]
RECIPES = {
    "dynamo 18": Recipe(Transformer, 18),
    "dynamo 18, 3 channels": Recipe(lambda: Transformer(channels=3), 18, channels=3),
    "dynamo 18, align_corners": Recipe(lambda: Transformer(corners=True), 18),
    "dynamo 18, align_corners, border": Recipe(
        lambda: Transformer(channels=3, corners=True, padding="border"), 18, channels=3, steps=CLIPPED
    ),
    "dynamo 18, two in series": Recipe(
        lambda: nn.Sequential(Transformer(out=(8, 10)), Transformer(size=(8, 10), out=(6, 5), corners=True)),
        18,
        steps=[["MatMul", "Reshape"]] * 2,
    ),
    "dynamo 18, on feature maps": Recipe(OnFeatures, 18),
    "dynamo 18, fixed batch": Recipe(Transformer, 18, fixed_batch=True),
    "dynamo 20": Recipe(Transformer, 20),
    "dynamo 21, nearest": Recipe(lambda: Transformer(mode="nearest"), 21),
    "dynamo 22, border": Recipe(lambda: Transformer(padding="border"), 22, steps=CLIPPED),
    "dynamo 22, residual theta": Recipe(lambda: Transformer(theta=residual), 22),
    "AffineGrid": Recipe(Transformer, 20, by_torchscript=True),
    "AffineGrid, align_corners": Recipe(lambda: Transformer(corners=True), 20, by_torchscript=True),
    "AffineGrid, fixed batch": Recipe(Transformer, 20, by_torchscript=True, fixed_batch=True),
    "AffineGrid, align_corners, fixed batch": Recipe(
        lambda: Transformer(corners=True), 20, by_torchscript=True, fixed_batch=True
    ),
    "einsum 16": Recipe(lambda: Transformer(by_einsum), 16, by_torchscript=True),
    "einsum 17, align_corners, border": Recipe(
        lambda: Transformer(by_einsum, corners=True, padding="border"), 17, by_torchscript=True, steps=CLIPPED
    ),
    "bmm 16": Recipe(lambda: Transformer(by_bmm), 16, by_torchscript=True),
    "bmm 17, align_corners": Recipe(lambda: Transformer(by_bmm, corners=True), 17, by_torchscript=True),
    "from the left 16": Recipe(lambda: Transformer(from_the_left), 16, by_torchscript=True),
    "from the left 17, reflection": Recipe(
        lambda: Transformer(from_the_left, padding="reflection"), 17, by_torchscript=True
    ),
    "attention by cat 17": Recipe(lambda: Transformer(by_einsum, attention_by_cat, numbers=3), 17, by_torchscript=True),
    "attention by stack 16": Recipe(
        lambda: Transformer(by_bmm, attention_by_stack, numbers=3), 16, by_torchscript=True
    ),
    "rotation 17": Recipe(lambda: Transformer(by_einsum, rotation, numbers=3), 17, by_torchscript=True),
    "residual theta 17": Recipe(lambda: Transformer(by_einsum, residual), 17, by_torchscript=True),
}


@dataclass(frozen=True)
class Pair:
    """A file before and after."""

    recipe: Recipe
    network: nn.Module
    before: Path
    after: Path
    result: Optimized

    def images(self) -> list[NDArray[np.float32]]:
        """Return pictures in batches that the file takes."""
        batches = (2,) if self.recipe.fixed_batch else (1, 3)
        return [pictures((batch, self.recipe.channels, *SIZE)) for batch in batches]


def pictures(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(7).random(shape, np.float32)


def write(recipe: Recipe, network: nn.Module, path: Path) -> Path:
    """Export with PyTorch alone, without any code of this project."""
    example = torch.from_numpy(pictures((2, recipe.channels, *SIZE)))
    names = {"input_names": ["image"], "output_names": ["sampled"], "verbose": False}
    if recipe.by_torchscript:
        axes = None if recipe.fixed_batch else {"image": {0: "N"}, "sampled": {0: "N"}}
        torch.onnx.export(
            network, (example,), str(path), opset_version=recipe.opset, dynamic_axes=axes, dynamo=False, **names
        )
    else:
        axes = None if recipe.fixed_batch else ({0: torch.export.Dim("N")},)
        torch.onnx.export(
            network,
            (example,),
            str(path),
            opset_version=recipe.opset,
            dynamic_shapes=axes,
            dynamo=True,
            external_data=False,
            **names,
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"author": "somebody", "stn_edge": "{}"})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module", params=RECIPES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    recipe, folder = RECIPES[request.param], tmp_path_factory.mktemp("files")
    network = recipe.network().eval()
    before = write(recipe, network, folder / "before.onnx")
    return Pair(recipe, network, before, folder / "after.onnx", optimize_onnx(before, folder / "after.onnx"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with something to gain, without metadata, so that its last bytes are its opset."""
    path = tmp_path_factory.mktemp("file") / "file.onnx"
    recipe = RECIPES["AffineGrid"]
    model = onnx.load(write(recipe, recipe.network().eval(), path))
    del model.metadata_props[:]
    onnx.save(model, path)
    return path


def run(path: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    sampled: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return sampled


def run_all(path: Path, feeds: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    answers: list[NDArray[np.float32]] = session.run(None, feeds)
    return answers


def assert_equal(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=RELATIVE * np.abs(expected).max())


def samplers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "GridSample"]


def attributes(node: onnx.NodeProto) -> dict[str, str | int]:
    values = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def steps_of(model: onnx.ModelProto, sampler: onnx.NodeProto) -> list[str]:
    """Return the operators that make a grid, from its product with a constant on."""
    makers = {output: node for node in model.graph.node for output in node.output}
    constants = {entry.name for entry in model.graph.initializer}
    node, steps = makers[sampler.input[1]], []
    while True:
        steps.insert(0, node.op_type)
        assert set(node.input[1:]) <= constants, f"{node.op_type} reads more than one tensor"
        if node.op_type == "MatMul":
            return steps
        node = makers[node.input[0]]


def hand_made(body: str, inputs: str, outputs: str, opset: int = 18, **constants: object) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> graph ({inputs}) => ({outputs}) {{ {body} }}'
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def sampler_in_a_function() -> onnx.ModelProto:
    """Return a graph whose sampler, with its grid, is a function of the file."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18, "somebody": 1]> graph (float[N, 6] theta, float[N, 1, 5, 7] image)'
        " => (float[N, 1, 4, 3] sampled) { sampled = somebody.Warp(image, theta, base) }"
        ' <domain: "somebody", opset_import: ["": 18]> Warp (image, theta, base) => (sampled) {'
        " matrix = Constant<value_ints = [-1, 2, 3]>() sizes = Constant<value_ints = [-1, 4, 3, 2]>()"
        ' t = Reshape(theta, matrix) p = Einsum<equation = "nij,pj->npi">(t, base) grid = Reshape(p, sizes)'
        " sampled = GridSample<align_corners = 1>(image, grid) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(base((4, 3), True).numpy(), "base"))
    onnx.checker.check_model(model, full_check=True)
    return model


# What comes out of a file that somebody else exported


def test_the_new_file_answers_as_the_old_one(pair: Pair) -> None:
    for image in pair.images():
        assert_equal(run(pair.after, image), run(pair.before, image))


def test_the_new_file_answers_as_the_network_in_pytorch(pair: Pair) -> None:
    for image in pair.images():
        with torch.inference_mode():
            assert_equal(run(pair.after, image), pair.network(torch.from_numpy(image)).numpy())


def test_each_grid_is_one_product_of_theta_with_a_constant(pair: Pair) -> None:
    model = onnx.load(pair.after)
    assert [steps_of(model, sampler) for sampler in samplers(model)] == pair.recipe.steps


def test_nothing_is_left_of_the_old_grid(pair: Pair) -> None:
    kinds = [node.op_type for node in onnx.load(pair.after).graph.node]
    assert kinds.count("MatMul") == len(pair.recipe.steps)
    assert not {"AffineGrid", "ReduceSum", "Einsum", "Mul", "Expand", "Constant", "Where"} & set(kinds)


def test_the_new_file_is_valid_and_its_modes_have_the_names_that_every_engine_knows(pair: Pair) -> None:
    model = onnx.load(pair.after)
    onnx.checker.check_model(model, full_check=True)
    [opset] = [entry.version for entry in model.opset_import if entry.domain == ""]
    assert opset == (pair.recipe.opset if pair.recipe.opset in range(16, 20) else 18)
    assert {attributes(node).get("mode", "bilinear") for node in samplers(model)} <= {"bilinear", "nearest"}


def test_a_bilinear_sampler_has_the_fast_attributes_unless_it_reflects(pair: Pair) -> None:
    for node in samplers(onnx.load(pair.after)):
        found = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": 0} | attributes(node)
        if found["mode"] == "bilinear" and found["padding_mode"] != "reflection":
            assert (found["padding_mode"], found["align_corners"]) == ("zeros", 0)


def test_inputs_outputs_and_metadata_are_those_of_the_old_file(pair: Pair) -> None:
    before, after = onnx.load(pair.before), onnx.load(pair.after)
    assert list(after.graph.input) == list(before.graph.input)
    assert [output.name for output in after.graph.output] == ["sampled"]
    assert {entry.key: entry.value for entry in after.metadata_props} == {"author": "somebody", "stn_edge": "{}"}


def test_what_was_done_is_said_and_nothing_was_left_out(pair: Pair) -> None:
    made = pair.result.changes.made
    assert sum("is one matrix product with a constant" in sentence for sentence in made) == len(pair.recipe.steps)
    assert any(f"opset {pair.recipe.opset} is now 18" in sentence for sentence in made) == (pair.recipe.opset > 19)
    assert pair.result.changes.kept == []
    assert not pair.result.is_unchanged
    assert pair.result.differences["sampled"] <= RELATIVE


def test_a_second_run_changes_nothing(pair: Pair, tmp_path: Path) -> None:
    again = optimize_onnx(pair.after, tmp_path / "again.onnx")
    assert again.is_unchanged
    assert again.changes.made == []
    assert (tmp_path / "again.onnx").read_bytes() == pair.after.read_bytes()


# Files with nothing, or not everything, to gain


def test_a_file_without_a_sampler_is_copied_byte_for_byte_and_says_so(tmp_path: Path) -> None:
    source, target = tmp_path / "plain.onnx", tmp_path / "copy.onnx"
    onnx.save(hand_made("y = Relu(x)", "float[N, 3] x", "float[N, 3] y"), source)
    result = optimize_onnx(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert result.is_unchanged
    assert result.changes.kept == ["there is no GridSample in it"]


@pytest.mark.parametrize("out", [(9, 7), (12, 13)], ids=["small", "large"])
def test_a_projective_grid_of_unknown_shapes_is_one_product_and_a_division(
    out: tuple[int, int], tmp_path: Path
) -> None:
    """TorchScript leaves the shape of the joined theta open; it is measured."""
    recipe = Recipe(lambda: Transformer(by_homography, out=out), 17, by_torchscript=True)
    network = recipe.network().eval()
    source = write(recipe, network, tmp_path / "source.onnx")
    result = optimize_onnx(source, tmp_path / "target.onnx")
    assert result.changes.kept == []
    written = onnx.load(tmp_path / "target.onnx")
    kinds = [node.op_type for node in written.graph.node]
    assert kinds[-8:] == ["MatMul", "Split", "Abs", "Add", "Div", "Transpose", "Reshape", "GridSample"]
    image = pictures((3, 1, *SIZE))
    with torch.inference_mode():
        assert_equal(run(tmp_path / "target.onnx", image), network(torch.from_numpy(image)).numpy())


NINE = "t = Reshape(theta, matrix) p = Einsum<equation = 'nij,pj->npi'>(t, base) xy = Slice(p, zero, two, last)"
NINE += " z = Slice(p, two, three, last) q = Div(xy, z) grid = Reshape(q, sizes)"
NINE_CONSTANTS = {
    "matrix": [-1, 3, 3],
    "zero": [0],
    "two": [2],
    "three": [3],
    "last": [2],
    "sizes": [-1, 4, 3, 2],
    "base": base((4, 3), False).numpy(),
}


def homography_of_nine(sampler: str) -> onnx.ModelProto:
    """Return the homography that divides zero by zero where all nine numbers are zero."""
    body = NINE.replace("'", '"') + f" sampled = GridSample{sampler}(image, grid)"
    inputs = "float[N, 9] theta, float[N, 1, 5, 7] image"
    return hand_made(body, inputs, "float[N, 1, 4, 3] sampled", **NINE_CONSTANTS)


def test_a_homography_of_nine_numbers_divides_zero_by_zero_as_before(tmp_path: Path) -> None:
    onnx.save(homography_of_nine(""), tmp_path / "source.onnx")
    result = optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    assert result.changes.kept == []
    kinds = [node.op_type for node in onnx.load(tmp_path / "target.onnx").graph.node]
    assert kinds == ["Reshape", "MatMul", "Split", "Div", "Transpose", "Reshape", "GridSample"]
    theta = np.random.default_rng(0).normal(0, 1, (3, 9)).astype(np.float32)
    theta[1] = 0
    feeds = {"theta": theta, "image": pictures((3, 1, 5, 7))}
    [expected], [actual] = (run_all(tmp_path / name, feeds) for name in ("source.onnx", "target.onnx"))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_one_point_at_infinity_does_not_spread_over_the_grid(tmp_path: Path) -> None:
    """Where z is 0 only the one point is lost; PyTorch samples all the others."""
    body = "q = Div(xy, z) sampled = GridSample<align_corners = 1>(image, q)"
    model = hand_made(
        body, "float[N, 4, 3, 2] xy, float[N, 4, 3, 1] z, float[N, 1, 5, 7] image", "float[N, 1, 4, 3] sampled"
    )
    onnx.save(model, tmp_path / "source.onnx")
    optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    random = np.random.default_rng(0)
    xy, image = random.uniform(0.1, 1, (1, 4, 3, 2)).astype(np.float32), pictures((1, 1, 5, 7))
    z = np.ones((1, 4, 3, 1), np.float32)
    z[0, 1, 1] = 0
    session = ort.InferenceSession((tmp_path / "target.onnx").read_bytes())
    actual = session.run(None, {"xy": xy, "z": z, "image": image})[0]
    with np.errstate(divide="ignore"):
        grid = torch.from_numpy(xy / z)
    expected = functional.grid_sample(torch.from_numpy(image), grid, align_corners=True).numpy()
    elsewhere = z[:, None, ..., 0] != 0
    np.testing.assert_allclose(actual[elsewhere], expected[elsewhere], atol=1e-5)


@pytest.mark.parametrize("corners", [False, True])
def test_a_sampling_size_that_follows_the_input_is_kept_and_said(corners: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = FollowsTheSize().eval()
    network.corners = corners
    axes = {"image": {0: "N", 2: "H", 3: "W"}, "sampled": {0: "N", 2: "H", 3: "W"}}
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    example = torch.from_numpy(pictures((2, 1, *SIZE)))
    torch.onnx.export(
        network,
        (example,),
        str(source),
        input_names=["image"],
        output_names=["sampled"],
        opset_version=20,
        dynamic_axes=axes,
        dynamo=False,
    )
    result = optimize_onnx(source, target)
    assert any("its sampling size is dynamic: it follows the size of an input" in text for text in result.changes.kept)
    assert any("AffineGrid exists only from opset 20 on" in text for text in result.changes.kept)
    image = pictures((3, 1, 8, 5))
    with torch.inference_mode():
        assert_equal(run(target, image), network(torch.from_numpy(image)).numpy())


def test_a_grid_of_points_in_a_volume_is_kept_and_said(tmp_path: Path) -> None:
    model = hand_made(
        'sampled = GridSample<mode = "linear">(volume, grid)',
        "float[N, 4, 3, 2, 3] grid, float[N, 1, 5, 7, 6] volume",
        "float[N, 1, 4, 3, 2] sampled",
        opset=20,
    )
    onnx.save(model, tmp_path / "source.onnx")
    result = optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    assert any("it samples volumes (5-D), this works on images (4-D)" in text for text in result.changes.kept)
    written = onnx.load(tmp_path / "target.onnx")
    assert written.opset_import[0].version == 20, "GridSample takes volumes from opset 20 on"


def test_two_samplers_that_share_a_grid_keep_sharing_it(tmp_path: Path) -> None:
    model = hand_made(
        "t = Reshape(theta, matrix) grid = AffineGrid(t, sizes) one = GridSample(image, grid)"
        ' two = GridSample<mode = "nearest">(image, grid)',
        "float[N, 6] theta, float[N, 1, 5, 7] image",
        "float[N, 1, 4, 3] one, float[N, 1, 4, 3] two",
        opset=20,
        matrix=[-1, 2, 3],
        sizes=[3, 1, 4, 3],
    )
    onnx.save(model, tmp_path / "source.onnx")
    # AffineGrid names the batch: the file is for batches of 3
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(model, tmp_path / "source.onnx")
    optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    written = onnx.load(tmp_path / "target.onnx")
    assert [node.op_type for node in written.graph.node] == ["MatMul", "Reshape", "GridSample", "GridSample"]
    assert [attributes(node)["mode"] for node in samplers(written)] == ["bilinear", "nearest"]


def test_one_theta_for_a_whole_batch_stays_as_it_is(tmp_path: Path) -> None:
    """A calibration: one theta, expanded to as many pictures as come."""
    model = hand_made(
        'p = Einsum<equation = "nij,pj->npi">(theta, base) one = Reshape(p, sizes) shape = Shape(image)'
        " count = Slice(shape, zero, first) all = Concat<axis = 0>(count, rest) grid = Expand(one, all)"
        " sampled = GridSample(image, grid)",
        "float[1, 2, 3] theta, float[N, 1, 5, 7] image",
        "float[N, 1, 4, 3] sampled",
        base=base((4, 3), False).numpy(),
        sizes=[-1, 4, 3, 2],
        zero=[0],
        first=[1],
        rest=[4, 3, 2],
    )
    onnx.save(model, tmp_path / "source.onnx")
    optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    session = ort.InferenceSession((tmp_path / "target.onnx").read_bytes())
    theta, image = np.array([[[0.9, 0.1, 0], [-0.1, 0.8, 0.2]]], np.float32), pictures((3, 1, 5, 7))
    grid = functional.affine_grid(torch.from_numpy(theta).expand(3, 2, 3), [3, 1, 4, 3], align_corners=False)
    expected = functional.grid_sample(torch.from_numpy(image), grid, align_corners=False)
    assert_equal(session.run(None, {"theta": theta, "image": image})[0], expected.numpy())


@pytest.mark.parametrize("sampler", ["<align_corners = 1>", '<padding_mode = "border">', ""], ids=str)
def test_a_half_precision_file_still_runs(sampler: str, tmp_path: Path) -> None:
    model = hand_made(
        't = Reshape(theta, matrix) p = Einsum<equation = "nij,pj->npi">(t, base) grid = Reshape(p, sizes)'
        f" sampled = GridSample{sampler}(image, grid)",
        "float16[N, 6] theta, float16[N, 1, 5, 7] image",
        "float16[N, 1, 4, 3] sampled",
        matrix=[-1, 2, 3],
        sizes=[-1, 4, 3, 2],
        base=base((4, 3), False).numpy().astype(np.float16),
    )
    onnx.save(model, tmp_path / "source.onnx")
    optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    theta = np.random.default_rng(0).normal(0, 1, (3, 6)).astype(np.float16)
    feeds = {"theta": theta, "image": pictures((3, 1, 5, 7)).astype(np.float16)}
    [before] = run_all(tmp_path / "source.onnx", feeds)
    [after] = run_all(tmp_path / "target.onnx", feeds)
    assert after.dtype == np.float16
    assert np.ptp(before) > 0.5
    np.testing.assert_allclose(after.astype(np.float32), before.astype(np.float32), atol=2e-3)


def test_a_base_grid_that_a_caller_may_replace_can_still_be_replaced(tmp_path: Path) -> None:
    """A constant that is an input too is only a default."""
    model = hand_made(
        't = Reshape(theta, matrix) p = Einsum<equation = "nij,pj->npi">(t, base) grid = Reshape(p, sizes)'
        " sampled = GridSample<align_corners = 1>(image, grid)",
        "float[N, 6] theta, float[N, 1, 5, 7] image, float[12, 3] base",
        "float[N, 1, 4, 3] sampled",
        matrix=[-1, 2, 3],
        sizes=[-1, 4, 3, 2],
        base=base((4, 3), True).numpy(),
    )
    onnx.save(model, tmp_path / "source.onnx")
    optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    feeds = {"theta": np.array([[1, 0, 0, 0, 1, 0]], np.float32), "image": pictures((1, 1, 5, 7))}
    own = feeds | {"base": base((4, 3), True).numpy() * np.array([0.5, 0.5, 1], np.float32)}
    for fed in (feeds, own):
        [expected], [actual] = (run_all(tmp_path / name, fed) for name in ("source.onnx", "target.onnx"))
        assert_equal(actual, expected)
    assert np.abs(run_all(tmp_path / "target.onnx", own)[0] - run_all(tmp_path / "target.onnx", feeds)[0]).max() > 0.1


def test_a_sampler_inside_a_function_is_found_and_made_fast(tmp_path: Path) -> None:
    model = sampler_in_a_function()
    onnx.save(model, tmp_path / "source.onnx")
    result = optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    written = onnx.load(tmp_path / "target.onnx")
    assert not written.functions
    assert [node.op_type for node in written.graph.node] == ["MatMul", "Reshape", "GridSample"]
    assert result.changes.kept == []
    feeds = {"theta": np.random.default_rng(0).normal(0, 1, (3, 6)).astype("f"), "image": pictures((3, 1, 5, 7))}
    [expected], [actual] = (run_all(tmp_path / name, feeds) for name in ("source.onnx", "target.onnx"))
    assert_equal(actual, expected)


def test_the_linter_looks_into_functions_and_takes_none_for_an_operator() -> None:
    findings = lint(sampler_in_a_function(), find_target("tensorrt"))
    assert not any("operators of the domain" in finding.sentence for finding in findings)
    assert any("is not one matrix product" in finding.sentence for finding in findings)


@pytest.mark.parametrize("shown", ["float", "uint8"])
def test_a_large_warped_picture_is_an_output_like_any_other(shown: str, tmp_path: Path) -> None:
    """At 512 pixels a coordinate's last bit is 3e-5 of a pixel, and a value of uint8 may round to the next level."""
    levels = {"float": "s = GridSample<align_corners = 1>(image, grid) sampled = Identity(s)"}
    levels["uint8"] = "s = GridSample<align_corners = 1>(image, grid) l = Mul(s, white) sampled = Cast<to = 2>(l)"
    white: dict[str, Any] = {"white": np.float32(255)} if shown == "uint8" else {}
    model = hand_made(
        't = Reshape(theta, matrix) p = Einsum<equation = "nij,pj->npi">(t, base) grid = Reshape(p, sizes)'
        f" {levels[shown]}",
        "float[N, 6] theta, float[N, 1, 512, 512] image",
        f"{shown}[N, 1, 512, 512] sampled",
        matrix=[-1, 2, 3],
        sizes=[-1, 512, 512, 2],
        base=base((512, 512), True).numpy(),
        **white,
    )
    onnx.save(model, tmp_path / "source.onnx")
    result = optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    assert [text.split(" ")[0] for text in result.changes.made] == ["the", "align_corners", "constants"]
    assert result.changes.kept == []
    feeds = {"theta": np.array([[0.8, -0.6, 0.1, 0.6, 0.8, 0]], np.float32), "image": pictures((1, 1, 512, 512))}
    [expected], [actual] = (run_all(tmp_path / name, feeds) for name in ("source.onnx", "target.onnx"))
    assert actual.dtype == expected.dtype
    apart = np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max()
    assert apart <= (1 if shown == "uint8" else 2e-4)


TOO_NEW: dict[str, tuple[str, str, dict[str, Any]]] = {
    "half_pixel_symmetric": (
        'sampled = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric">(s, , scales)',
        "Resize has the coordinate_transformation_mode 'half_pixel_symmetric', which opset 18 does not have",
        {"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "wrap": (
        'sampled = Pad<mode = "wrap">(s, pads)',
        "Pad has the mode 'wrap', which opset 18 does not have",
        {"pads": [0, 0, 1, 1, 0, 0, 1, 1]},
    ),
    "uint16": (
        "q = QuantizeLinear(s, step, nought) sampled = DequantizeLinear(q, step, nought)",
        "QuantizeLinear of uint16 exists only after opset 18",
        {"step": np.float32(2**-14), "nought": np.uint16(0)},
    ),
}


@pytest.mark.parametrize("kind", TOO_NEW)
def test_a_file_that_needs_its_opset_keeps_it_and_gets_a_fast_grid(kind: str, tmp_path: Path) -> None:
    body, reason, constants = TOO_NEW[kind]
    model = hand_made(
        't = Reshape(theta, matrix) p = Einsum<equation = "nij,pj->npi">(t, base) grid = Reshape(p, sizes)'
        f" s = GridSample(image, grid) {body}",
        "float[N, 6] theta, float[N, 1, 5, 7] image",
        "float[N, 1, h, w] sampled",
        opset=22,
        matrix=[-1, 2, 3],
        sizes=[-1, 4, 3, 2],
        base=base((4, 3), False).numpy(),
        **constants,
    )
    onnx.save(model, tmp_path / "source.onnx")
    result = optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    written = onnx.load(tmp_path / "target.onnx")
    assert result.changes.kept == [f"{reason}, so it stays opset 22"]
    assert any("is one matrix product with a constant" in text for text in result.changes.made)
    assert [entry.version for entry in written.opset_import] == [22]
    [sampler] = samplers(written)
    assert steps_of(written, sampler) == ["MatMul", "Reshape"]
    feeds = {"theta": np.random.default_rng(0).normal(0, 1, (3, 6)).astype("f"), "image": pictures((3, 1, 5, 7))}
    [expected], [actual] = (run_all(tmp_path / name, feeds) for name in ("source.onnx", "target.onnx"))
    np.testing.assert_allclose(actual, expected, atol=2**-14 if kind == "uint16" else 1e-5)


def test_the_sampler_of_onnxruntime_itself_is_kept_and_said(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]> graph (float[N, 4, 3, 2] grid,'
        " float[N, 1, 5, 7] image) => (float[N, 1, 4, 3] sampled) { sampled = com.microsoft.GridSample(image, grid) }"
    )
    onnx.save(model, tmp_path / "source.onnx")
    result = optimize_onnx(tmp_path / "source.onnx", tmp_path / "target.onnx")
    assert result.is_unchanged
    [sentence] = result.changes.kept
    assert sentence.endswith(": it is the GridSample of com.microsoft; export the file again")


# A rewritten graph that is wrong


def test_a_wrong_graph_is_not_written_and_an_existing_file_stays(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slightly_wrong(grid: ir.Value, model: ir.Model) -> LinearGrid | str:
        found = truth(grid, model)
        assert isinstance(found, LinearGrid)
        return LinearGrid(found.theta, found.basis * np.float32(1.001), found.offset, found.size, found.is_product)

    truth = grid_products.find_linear_grid
    monkeypatch.setattr(grid_products, "find_linear_grid", slightly_wrong)
    with pytest.raises(DifferenceError, match=r"differs in sampling grid '.*' by .*; nothing was written"):
        optimize_onnx(file, tmp_path / "new.onnx")
    (tmp_path / "old.onnx").write_bytes(b"what was there")
    with pytest.raises(DifferenceError, match="differs in sampling grid '"):
        optimize_onnx(file, tmp_path / "old.onnx")
    assert (tmp_path / "old.onnx").read_bytes() == b"what was there"
    assert [path.name for path in tmp_path.iterdir()] == ["old.onnx"]


def one_operator(body: str) -> onnx.ModelProto:
    return hand_made(body, "float[N, 3] x", "float[N, M] y", k=np.float32(1.0), double=[2, 1])


def test_graphs_that_differ_by_a_shape_a_value_or_a_nan_are_different() -> None:
    old = one_operator("y = Mul(x, k) unused = Identity(double)")
    for body in (
        "y = Tile(x, double) unused = Identity(k)",
        "h = Add(x, k) y = Mul(h, h) unused = Identity(double)",
        "z = Sub(x, x) y = Div(z, z) unused = Identity(double) other = Identity(k)",
    ):
        with pytest.raises(DifferenceError, match="differs in output 'y'"):
            compare_graphs(old, one_operator(body), "file.onnx")
    nan = one_operator("z = Sub(x, x) y = Div(z, z) unused = Identity(double) other = Identity(k)")
    with pytest.raises(DifferenceError, match="output 'y' is not finite anywhere on random inputs, so a change cannot"):
        compare_graphs(nan, nan, "file.onnx")


def test_a_nan_in_the_same_place_in_both_is_no_difference() -> None:
    body = "z = Sub(x, k) r = Sqrt(z) t = Sqrt(x) y = Concat<axis = 1>(r, t) unused = Identity(double)"
    assert compare_graphs(one_operator(body), one_operator(body), "file.onnx") == {"y": 0.0}


# Bad input


def refusal(source: Path, target: Path) -> str:
    """Return the one sentence that a user sees."""
    with pytest.raises(InputError, match=r"\S") as caught:
        optimize_onnx(source, target)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert not target.is_file()
    return sentence


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, tmp_path / "new.onnx") == f"{tmp_path}: is a folder; give an .onnx file"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    assert refusal(missing, tmp_path / "new.onnx") == f"{missing}: no such file"


@pytest.mark.parametrize("data", [b"", b"\0", b"Dear reader,\nthis is a letter.\n", b"\x89PNG\r\n\x1a\n", b"{}"])
def test_what_is_no_onnx_file_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.onnx").write_bytes(data)
    assert "is not an ONNX file, or only a part of one" in refusal(tmp_path / "file.onnx", tmp_path / "new.onnx")


def test_a_file_cut_anywhere_is_refused(file: Path, tmp_path: Path) -> None:
    whole, cut = file.read_bytes(), tmp_path / "cut.onnx"
    for length in [*range(1, len(whole), 23), *range(len(whole) - 12, len(whole))]:
        cut.write_bytes(whole[:length])
        sentence = refusal(cut, tmp_path / "new.onnx")
        assert sentence.startswith(f"{cut}: is "), f"cut at {length} of {len(whole)}"


@pytest.mark.parametrize("name", [b"image", b"sampled", b"GridSample"])
def test_a_damaged_name_is_one_sentence(name: bytes, file: Path, tmp_path: Path) -> None:
    """One byte that no text has, in the name of a tensor or of an operator."""
    (tmp_path / "damaged.onnx").write_bytes(file.read_bytes().replace(name, b"\xff" + name[1:]))
    assert refusal(tmp_path / "damaged.onnx", tmp_path / "new.onnx").startswith(f"{tmp_path / 'damaged.onnx'}: ")


def test_a_file_whose_weights_are_missing_is_refused(file: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    onnx.save(onnx.load(file), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert "its weights are in 'weights.bin', which is not beside it" in refusal(source, tmp_path / "new.onnx")


def test_weights_in_another_file_end_up_in_the_new_one(file: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source.onnx", tmp_path / "elsewhere" / "new.onnx"
    onnx.save(onnx.load(file), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    optimize_onnx(source, target)
    image = pictures((2, 1, *SIZE))
    assert_equal(run(target, image), run(file, image))


def test_a_copy_of_a_file_with_its_weights_elsewhere_still_loads(tmp_path: Path) -> None:
    model = hand_made("y = Add(x, k)", "float[N, 3] x", "float[N, 3] y", k=np.arange(3, dtype=np.float32))
    source, target = tmp_path / "source.onnx", tmp_path / "elsewhere" / "new.onnx"
    onnx.save(model, source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    optimize_onnx(source, target)
    session = ort.InferenceSession(str(target))
    np.testing.assert_array_equal(session.run(None, {"x": np.zeros((1, 3), np.float32)})[0], [[0, 1, 2]])


def test_an_opset_from_before_grid_sample_is_refused(tmp_path: Path) -> None:
    onnx.save(hand_made("y = Relu(x)", "float[N, 3] x", "float[N, 3] y", opset=11), tmp_path / "old.onnx")
    sentence = refusal(tmp_path / "old.onnx", tmp_path / "new.onnx")
    assert "has opset 11, but GridSample exists from 16 on" in sentence
    assert "export it again with opset 18" in sentence


def test_an_operator_that_onnxruntime_does_not_know_is_refused(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18, "of.somebody": 1]> graph (float[N, 6] theta, float[N, 1, 5, 7] image)'
        " => (float[N, 1, 4, 3] y) { g = of.somebody.Grid(theta) y = GridSample<align_corners = 1>(image, g) }"
    )
    shape = onnx.helper.make_tensor_value_info("g", onnx.TensorProto.FLOAT, ["N", 4, 3, 2])
    model.graph.value_info.append(shape)
    onnx.save(model, tmp_path / "custom.onnx")
    assert "onnxruntime cannot load it" in refusal(tmp_path / "custom.onnx", tmp_path / "new.onnx")


def test_a_place_that_cannot_be_written_to_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("not a folder")
    assert "cannot be written" in refusal(file, tmp_path / "a_file" / "new.onnx")
    (tmp_path / "a_folder.onnx").mkdir()
    assert "cannot be written" in refusal(file, tmp_path / "a_folder.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_file", "a_folder.onnx"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_without_permission_is_refused(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "Permission denied" in refusal(file, folder / "new.onnx")


def test_a_folder_that_is_not_there_is_made(file: Path, tmp_path: Path) -> None:
    optimize_onnx(file, tmp_path / "new" / "folder" / "new.onnx")
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["new.onnx"]


def test_a_file_can_be_optimised_in_place(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(file.read_bytes())
    optimize_onnx(path, path)
    image = pictures((2, 1, *SIZE))
    assert_equal(run(path, image), run(file, image))
    assert len(samplers(onnx.load(path))) == 1


def test_the_sentence_of_a_bad_file_is_a_model_contract_error(tmp_path: Path) -> None:
    with pytest.raises(ModelContractError, match="no such file"):
        optimize_onnx(tmp_path / "missing.onnx", tmp_path / "new.onnx")
