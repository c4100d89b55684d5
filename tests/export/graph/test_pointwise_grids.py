"""Grids that are more than a product of theta, or less: limited, projective, constant, and those of flows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from stn_export import DifferenceError, Optimized, export_onnx, optimize_onnx
from stn_export.graph import grid_products, pointwise_grids
from stn_export.graph.grid_expressions import Constant, Linear, PointwiseGrid, Step
from tests.support.warping_networks import NETWORKS, Homography, HomographyOfEight, Warp, write

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's exporters warn of themselves

LinearMap = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]] | None]

SIZE, OUT = 24, (20, 22)
HEAD = ("AveragePool", "Reshape", "Flatten", "Gemm", "Conv")

# What is left of each grid behind theta or the flow: one product with a constant, or none, and what it is divided by
# or limited with.
DIVIDED = ["Reshape", "MatMul", "Split", "Div", "Transpose", "Reshape"]
MIXED = ["Gemm", *DIVIDED]
KORNIA = ["MatMul", "Split", "Abs", "Greater", "Where", "Reciprocal", "Where", "Mul", "Transpose", "Reshape"]
STEPS = {
    "ClampedAffine": ["MatMul", "Clip", "Reshape"],
    "TanhAffine": ["MatMul", "Tanh", "Reshape"],
    "LimitedTwice": ["Tanh", "MatMul", "Clip", "Reshape"],
    "Homography": DIVIDED,
    "HomographyWithEpsilon": DIVIDED,
    "HomographyOfEight": MIXED,
    "GuardedHomography": [
        *("Reshape", "MatMul", "Split", "Abs", "Less", "Less", "Where", "Where"),
        *("Div", "Clip", "Transpose", "Reshape"),
    ],
    "ThinPlate": ["MatMul", "Reshape"],
    "ClampedThinPlate": ["MatMul", "Clip", "Reshape"],
    "ConstantTheta": ["Shape", "Concat", "Expand"],
    "Flow": ["Reshape", "Mul", "Add", "Transpose", "Reshape"],
    "VoxelFlow": ["Reshape", "Gather", "Mul", "Add", "Transpose", "Reshape"],
    "ClampedFlow": ["Tanh", "Reshape", "Mul", "Add", "Clip", "Transpose", "Reshape"],
    "KorniaWarp": KORNIA,
    "KorniaPerspective": ["Gemm", *DIVIDED],
    "KorniaAffine": ["Reshape", "MatMul", "Reshape"],
    "KorniaRotation": ["Reshape", "MatMul", "Reshape"],
}
BY_TORCHSCRIPT = STEPS | {
    "LimitedTwice": ["Tanh", "MatMul", "Max", "Min", "Reshape"],
    "HomographyWithEpsilon": MIXED,
    "KorniaWarp": [*KORNIA[:6], "Mul", *KORNIA[6:]],
    "KorniaPerspective": [*KORNIA[:6], "Mul", *KORNIA[6:]],
    "KorniaAffine": ["Slice", "Reshape", "MatMul", "Reshape"],
    "KorniaRotation": ["Slice", "Reshape", "MatMul", "Reshape"],
}


@dataclass(frozen=True)
class Pair:
    """A file before and after."""

    name: str
    dynamo: bool
    network: Warp
    before: Path
    after: Path
    result: Optimized

    @property
    def steps(self) -> list[str]:
        """The operators that are to be left of the grid."""
        return (STEPS if self.dynamo else BY_TORCHSCRIPT)[self.name]


def network_of(name: str, **options: object) -> Warp:
    torch.manual_seed(0)
    return NETWORKS[name](SIZE, OUT[0], **options).eval()


def pictures(count: int, size: int = SIZE, kind: type[np.floating] = np.float32) -> NDArray[np.floating]:
    return np.random.default_rng(count).random((count, 1, size, size)).astype(kind)


def optimised(network: Warp, folder: Path, dynamo: bool, **options: bool) -> tuple[Path, Path, Optimized]:
    example = torch.from_numpy(pictures(2)).to(next(network.parameters()).dtype)
    before = write(network, example, folder / "before.onnx", dynamo, 18 if dynamo else 20, **options)
    return before, folder / "after.onnx", optimize_onnx(before, folder / "after.onnx")


LONG = ("KorniaRotation", "KorniaPerspective", "KorniaAffine")
"""Ten seconds each by the new exporter."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((name, dynamo), marks=pytest.mark.slow if dynamo and name in LONG else ())
        for name in NETWORKS
        for dynamo in (True, False)
    ],
    ids=str,
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    name, dynamo = request.param
    network = network_of(name)
    return Pair(name, dynamo, network, *optimised(network, tmp_path_factory.mktemp("files"), dynamo))


def run(path: Path, image: NDArray[np.floating]) -> NDArray[np.floating]:
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    sampled: NDArray[np.floating] = session.run(None, {"image": image})[0]
    return sampled


def kinds_before_the_sampler(path: Path) -> list[str]:
    """Return the operators from which the grid is computed, in the graph's order."""
    model = onnx.load(path)
    makers = {output: node for node in model.graph.node for output in node.output}
    [sampler] = [node for node in model.graph.node if node.op_type == "GridSample"]
    needed, stack = set(), [sampler.input[1]]
    while stack:
        node = makers.get(stack.pop())
        if node is not None and node.output[0] not in needed:
            needed.add(node.output[0])
            stack += node.input
    return [node.op_type for node in model.graph.node if node.output[0] in needed]


def assert_near(actual: NDArray[np.floating], expected: NDArray[np.floating], relative: float = 1e-5) -> None:
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * np.abs(expected).max())


def test_the_new_file_answers_as_the_old_one_in_batches_of_any_size(pair: Pair) -> None:
    for count in (1, 2, 5):
        # a thin plate's inverse makes five units of the last place of theta one of the sixth
        relative = 5e-5 if "ThinPlate" in pair.name else 1e-5
        assert_near(run(pair.after, pictures(count)), run(pair.before, pictures(count)), relative)


def test_of_the_grid_one_product_is_left_and_what_divides_or_limits_it(pair: Pair) -> None:
    kinds = kinds_before_the_sampler(pair.after)
    assert kinds[-len(pair.steps) :] == pair.steps
    own = not pair.name.startswith("Kornia")  # kornia normalises and inverts the matrix before
    assert not own or [kind for kind in kinds[: -len(pair.steps)] if kind not in HEAD] == []


def test_what_was_done_is_said_and_nothing_was_kept(pair: Pair) -> None:
    assert pair.result.changes.kept == []
    assert any(text.startswith("the grid of ") for text in pair.result.changes.made)


def test_a_second_run_changes_nothing(pair: Pair, tmp_path: Path) -> None:
    again = optimize_onnx(pair.after, tmp_path / "again.onnx")
    assert again.changes.made == []
    assert (tmp_path / "again.onnx").read_bytes() == pair.after.read_bytes()


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "TorchScript"])
@pytest.mark.parametrize("name", ["ClampedThinPlate", "Homography", "ConstantTheta", "Flow", "KorniaWarp"])
def test_a_fixed_batch_stays_fixed(name: str, dynamo: bool, tmp_path: Path) -> None:
    before, after, result = optimised(network_of(name), tmp_path, dynamo, open_batch=False)
    assert result.changes.kept == []
    assert len(kinds_before_the_sampler(after)) < max(4, len(kinds_before_the_sampler(before)))
    assert_near(run(after, pictures(2)), run(before, pictures(2)), 5e-5 if "ThinPlate" in name else 1e-5)
    assert onnx.load(after).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("name", ["ClampedAffine", "Homography", "GuardedHomography", "ConstantTheta", "VoxelFlow"])
def test_align_corners_and_border_are_expressed_in_the_grid(name: str, padding: str, tmp_path: Path) -> None:
    before, after, _ = optimised(network_of(name, corners=True, padding=padding), tmp_path, dynamo=True)
    [sampler] = [node for node in onnx.load(after).graph.node if node.op_type == "GridSample"]
    found = {entry.name: onnx.helper.get_attribute_value(entry) for entry in sampler.attribute}
    assert (found["padding_mode"], found["align_corners"]) == (b"zeros", 0)
    assert kinds_before_the_sampler(after).count("MatMul") == (name not in ("ConstantTheta", "VoxelFlow"))
    assert_near(run(after, pictures(3)), run(before, pictures(3)))


@pytest.mark.parametrize("name", ["ClampedAffine", "Homography", "GuardedHomography", "Flow", "ConstantTheta"])
def test_the_new_file_answers_as_pytorch(name: str, tmp_path: Path) -> None:
    network = network_of(name)
    _, after, _ = optimised(network, tmp_path, dynamo=True)
    with torch.inference_mode():
        assert_near(run(after, pictures(3)), network(torch.from_numpy(pictures(3))).numpy())


@pytest.mark.parametrize("name", ["ClampedAffine", "Homography", "Flow", "ConstantTheta", "KorniaWarp"])
def test_export_onnx_makes_the_same_grids(name: str, tmp_path: Path) -> None:
    export_onnx(network_of(name), tmp_path / "module.onnx", torch.from_numpy(pictures(2)))
    kinds = kinds_before_the_sampler(tmp_path / "module.onnx")
    assert kinds[-len(STEPS[name]) :] == STEPS[name]


# Half precision


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "TorchScript"])
@pytest.mark.parametrize("name", ["ClampedAffine", "Homography", "Flow", "KorniaWarp"])
def test_the_grid_of_a_module_in_half_precision_is_a_product(name: str, dynamo: bool, tmp_path: Path) -> None:
    if name == "ClampedAffine" and not dynamo:
        pytest.skip("onnxruntime does not run AffineGrid in float16")
    network = network_of(name).half()
    before, after, result = optimised(network, tmp_path, dynamo)
    assert result.changes.kept == []
    kinds = kinds_before_the_sampler(after)
    assert "Cast" in kinds
    assert kinds.count("MatMul") == (name != "Flow")
    assert kinds[-1] == "Reshape"
    image = pictures(3, kind=np.float16)
    actual = run(after, image)
    assert actual.dtype == np.float16
    with torch.inference_mode():
        exact = network.float()(torch.from_numpy(image.astype(np.float32))).numpy()
    apart = np.abs(actual.astype(np.float64) - exact).max()
    assert apart <= max(2e-3, np.abs(run(before, image).astype(np.float64) - exact).max())


def test_a_wrong_grid_of_half_precision_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of("Homography").half()
    _spoil(monkeypatch, 1.02)
    with pytest.raises(DifferenceError, match="differs in output 'sampled' by"):
        optimised(network, tmp_path, dynamo=True)


# Where a rewriting is not the same


def _spoil(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Make the basis of each linear map wrong by a factor, also of those that are all of a grid."""
    truth: LinearMap = pointwise_grids.linear_map

    def wrong(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        found = truth(points)
        return None if found is None else (found[0] * np.linspace(1, factor, found[0].shape[1], dtype="f"), found[1])

    monkeypatch.setattr(pointwise_grids, "linear_map", wrong)
    monkeypatch.setattr(
        grid_products, "find_linear_grid", lambda grid, model: grid_products.find_pointwise_grid(grid, model)
    )


def _moved(truth: LinearMap) -> LinearMap:
    """Return what finds linear maps, and adds an offset that is not there."""

    def wrong(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        found = truth(points)
        return None if found is None else (found[0], found[1] + np.float32(0.01))

    return wrong


def test_where_a_pointwise_grid_differs_the_file_is_kept_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = pointwise_grids.linear_map
    monkeypatch.setattr(
        pointwise_grids,
        "linear_map",
        lambda points: (lambda found: found and (found[0] * np.float32(1.001), found[1] + np.float32(0.01)))(
            truth(points)
        ),
    )
    before, after, result = optimised(network_of("Homography"), tmp_path, dynamo=True)
    assert result.is_unchanged
    assert after.read_bytes() == before.read_bytes()
    assert any(
        text.startswith("only linear grids are rewritten, since with the others ") for text in result.changes.kept
    )


# The limits of a constant


def test_a_constant_grid_that_would_make_the_file_large_is_kept_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pointwise_grids, "LARGEST_BASE", 2 * OUT[0] * OUT[1] - 1)
    _, _, result = optimised(network_of("ConstantTheta"), tmp_path, dynamo=True)
    assert result.is_unchanged
    assert any(
        "its constant grid would add 0 MiB to the file; at most 0 MiB are" in text for text in result.changes.kept
    )


def test_the_limits_are_those_that_the_readme_states() -> None:
    assert pointwise_grids.LARGEST_BASE * 4 == 16 * 2**20
    assert pointwise_grids.LARGEST_CONSTANT * 4 == 64 * 2**20


# What is found in small graphs

BASE = np.stack([*np.mgrid[:4, :3][::-1].reshape(2, -1), np.ones(12)], axis=1).astype(np.float32)


def find(body: str, inputs: str, **constants: object) -> PointwiseGrid | str:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> graph ({inputs}, float[N, 1, 5, 7] image) => (float[N, 1, 4, 3] y)'
        f" {{ {body} y = GridSample(image, grid) }}"
    )
    known = {
        "base": BASE,
        "to9": [-1, 3, 3],
        "sizes": [-1, 4, 3, 2],
        "last": [2],
        "zero": [0],
        "two": [2],
        "three": [3],
    }
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in (known | constants).items() if name in used
    )
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    [sampler] = [node for node in graph.graph if node.op_type == "GridSample"]
    assert sampler.inputs[1] is not None
    return pointwise_grids.find_pointwise_grid(sampler.inputs[1], graph)


PROJECTED = (
    't = Reshape(theta, to9) p = Einsum<equation = "nij,pj->npi">(t, base) xy = Slice(p, zero, two, last)'
    " z = Slice(p, two, three, last)"
)


def test_a_projective_grid_is_a_division_of_two_linear_maps_of_theta() -> None:
    found = find(f"{PROJECTED} q = Div(xy, z) grid = Reshape(q, sizes)", "float[N, 9] theta")
    assert isinstance(found, PointwiseGrid)
    assert isinstance(found.root, Step)
    upper, lower = found.root.inputs
    assert (found.root.kind, found.size, found.source and found.source.name) == ("Div", (4, 3), "theta")
    assert isinstance(upper, Linear)
    assert isinstance(lower, Linear)
    expected = np.zeros((9, 2, 12))
    expected[:3, 0] = expected[3:6, 1] = BASE.T
    np.testing.assert_allclose(upper.basis, expected, atol=1e-6)
    np.testing.assert_allclose(lower.basis[6:, 0], BASE.T, atol=1e-6)
    assert lower.basis.shape == (9, 1, 12), "x and y have one divisor"


def test_a_grid_that_is_computed_in_another_way_for_x_than_for_y_is_said() -> None:
    body = (
        't = Reshape(theta, to9) p = Einsum<equation = "nij,pj->npi">(t, base) x = Slice(p, zero, one, last)'
        " y0 = Slice(p, one, two, last) a = Tanh(x) b = Sigmoid(y0) q = Concat<axis = 2>(a, b) grid = Reshape(q, sizes)"
    )
    assert find(body, "float[N, 9] theta", one=[1]) == "its coordinates are computed in different ways"


def test_a_product_of_two_maps_of_theta_is_an_operator_on_each_point() -> None:
    found = find(f"{PROJECTED} q = Mul(xy, z) grid = Reshape(q, sizes)", "float[N, 9] theta")
    assert isinstance(found, PointwiseGrid)
    assert isinstance(found.root, Step)
    assert found.root.kind == "Mul"


def test_a_step_on_theta_itself_is_no_step_on_each_point() -> None:
    """Computed point by point, the sine of one angle would be computed for every pixel."""
    body = 's = Sin(theta) t = Reshape(s, to9) p = Einsum<equation = "nij,pj->npi">(t, base)'
    body += " xy = Slice(p, zero, two, last) h = Tanh(xy) grid = Reshape(h, sizes)"
    found = find(body, "float[N, 9] theta")
    assert isinstance(found, PointwiseGrid)
    assert found.source is not None
    assert found.source.name == "s"


def test_pictures_of_a_batch_that_exchange_their_grids_are_said() -> None:
    body = f"{PROJECTED} q = Div(xy, z) r = Slice(q, end, before, zero, back) grid = Reshape(r, sizes)"
    found = find(body, "float[N, 9] theta", end=[-1], before=[-1000], back=[-1])
    assert isinstance(found, str)


def test_a_constant_for_each_picture_of_a_batch_is_said() -> None:
    body = "s = Shape(image) n = Gather(s, first) i = Range(first, n, step) f = Cast<to = 1>(i) r = Reshape(f, column)"
    body += " grid = Mul(r, points)"
    points = np.ones((1, 4, 3, 2), np.float32)
    found = find(body, "float[N, 6] unused", first=0, step=1, column=[-1, 1, 1, 1], points=points)
    assert found == "its grid is another constant for each picture of a batch"


def test_a_grid_without_data_is_a_constant() -> None:
    points = np.random.default_rng(0).random((1, 4, 3, 2)).astype(np.float32)
    body = "s = Shape<start = 0, end = 1>(image) a = Concat<axis = 0>(s, ones) grid = Expand(points, a)"
    found = find(body, "float[N, 6] unused", ones=[1, 1, 1], points=points)
    assert isinstance(found, PointwiseGrid)
    assert isinstance(found.root, Constant)
    np.testing.assert_array_equal(found.root.values, points.reshape(12, 2).T)


@pytest.mark.parametrize("kind", [Homography, HomographyOfEight])
def test_a_point_where_the_divisor_is_zero_is_what_it_was(kind: type[Warp], tmp_path: Path) -> None:
    """The horizon crosses the picture: infinite points stay where they are and do not spread."""
    network = kind(SIZE, OUT[0]).eval()
    for parameter in network.head.parameters():
        parameter.data.zero_()
    horizon: Tensor = torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 4, 0])
    network.head[2].bias.data = horizon[: network.numbers]
    before, after, _ = optimised(network, tmp_path, dynamo=True)
    assert_near(run(after, pictures(2)), run(before, pictures(2)))
