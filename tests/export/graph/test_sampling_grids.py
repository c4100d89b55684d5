"""What ``find_linear_grid`` finds in small graphs, and the fast samplers that are made of it."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper
from torch.nn import functional

from stn_export.graph.grid_products import rewrite_samplers
from stn_export.graph.rewrites import Changes, fold_constants
from stn_export.graph.sampling_grids import LinearGrid, find_linear_grid, linear_map, probing_rows

HEIGHT, WIDTH = 4, 3  # of the grid
IMAGE = (5, 7)  # height and width


def base(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    """Return x, y and 1 of each pixel, (height * width, 3)."""
    y, x = np.mgrid[:height, :width]
    points = [(2 * x + 1) / width - 1, (2 * y + 1) / height - 1, np.ones_like(x)]
    return np.stack(points, axis=-1).reshape(-1, 3).astype(np.float32)


def affine_basis(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    """Return how each of theta's six numbers moves each point, (6, height * width * 2), by hand."""
    basis = np.zeros((6, height * width, 2), np.float32)
    basis[:3, :, 0] = basis[3:, :, 1] = base(height, width).T
    return basis.reshape(6, -1)


CONSTANTS = {
    "base": base(),
    "baseT": np.ascontiguousarray(base().T),
    "basis": affine_basis(),
    "matrix": [-1, 2, 3],
    "matrix3": [-1, 3, 3],
    "sizes": [-1, HEIGHT, WIDTH, 2],
    "identity": np.array([[[1, 0, 0], [0, 1, 0]]], np.float32),
    "shift": np.array([0.25, -0.5], np.float32),
    "half": np.float32(0.5),
    "zero": [0],
    "one": [1],
    "two": [2],
    "three": [3],
    "rest": [1, HEIGHT, WIDTH],
    "points": [HEIGHT, WIDTH, 2],
}
LARGE = {"base": base(12, 13), "sizes": [-1, 12, 13, 2], "eye": np.array([1, 0, 0, 0, 1, 0], np.float32)}
PLAIN = "t = Reshape(theta, matrix) p = Einsum<equation = 'nij,pj->npi'>(t, base) grid = Reshape(p, sizes)"


def graph_of(
    body: str, inputs: str = "float[N, 6] theta", opset: int = 20, sampler: str = "", grid: str = "grid", **more: object
) -> onnx.ModelProto:
    """Return a graph that makes a tensor named grid, and samples an image there."""
    image = f"float[N, 1, {IMAGE[0]}, {IMAGE[1]}] image"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> graph ({inputs}, {image}) => (float[N, 1, h, w] y)'
        " { " + body.replace("'", '"') + f" y = GridSample{sampler}(image, {grid}) }}"
    )
    used = {name for node in model.graph.node for name in node.input}
    constants = {name: value for name, value in (CONSTANTS | more).items() if name in used}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def find(body: str, inputs: str = "float[N, 6] theta", opset: int = 20, **more: object) -> LinearGrid | str:
    return find_in(graph_of(body, inputs, opset, **more))


def find_in(model: onnx.ModelProto) -> LinearGrid | str:
    graph = ir.from_proto(model)
    [sampler] = [node for node in graph.graph if node.op_type == "GridSample"]
    assert sampler.inputs[1] is not None
    return find_linear_grid(sampler.inputs[1], graph)


def linear(body: str, inputs: str = "float[N, 6] theta", opset: int = 20, **more: object) -> LinearGrid:
    found = find(body, inputs, opset, **more)
    assert isinstance(found, LinearGrid), found
    assert found.basis.dtype == np.float32
    return found


# Grids that are linear

SPELLINGS = {
    "einsum": PLAIN,
    "theta from the left": "t = Reshape(theta, matrix) p = MatMul(t, baseT) q = Transpose<perm = [0, 2, 1]>(p)"
    " grid = Reshape(q, sizes)",
    "base from the left": "t = Reshape(theta, matrix) u = Transpose<perm = [0, 2, 1]>(t) p = MatMul(base, u)"
    " grid = Reshape(p, sizes)",
    "one product": "p = MatMul(theta, basis) grid = Reshape(p, sizes)",
    "multiplied and summed": "t = Reshape(theta, matrix) u = Unsqueeze(t, one) b = Unsqueeze(base, one)"
    " m = Mul(u, b) last = Identity(three) p = ReduceSum<keepdims = 0>(m, last) grid = Reshape(p, sizes)",
    "AffineGrid": "t = Reshape(theta, matrix) s = Shape(image) n = Slice(s, zero, one) a = Concat<axis = 0>(n, rest)"
    " grid = AffineGrid(t, a)",
    "through half and back": "h = Mul(theta, half) d = Div(h, half) t = Reshape(d, matrix)"
    " p = Einsum<equation = 'nij,pj->npi'>(t, base) grid = Reshape(p, sizes)",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_basis_is_that_of_the_affine_grid_however_it_is_spelled(spelling: str) -> None:
    found = linear(SPELLINGS[spelling])
    np.testing.assert_allclose(found.basis, affine_basis(), atol=1e-6)
    assert found.offset is None
    assert found.size == (HEIGHT, WIDTH)
    assert found.theta.name == "theta"


@pytest.mark.parametrize("batch", [1, 2, 5, 50])
def test_a_fixed_batch_makes_no_difference(batch: int) -> None:
    found = linear(PLAIN, f"float[{batch}, 6] theta")
    np.testing.assert_allclose(found.basis, affine_basis(), atol=1e-6)


def test_the_grid_that_pytorch_makes_is_found() -> None:
    found = linear(SPELLINGS["AffineGrid"])
    theta = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = functional.affine_grid(theta, [4, 1, HEIGHT, WIDTH], align_corners=False)
    actual = (theta.reshape(4, 6).numpy() @ found.basis).reshape(4, HEIGHT, WIDTH, 2)
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-6)


def test_only_a_product_with_a_constant_and_reshapes_is_a_product_already() -> None:
    assert [name for name, body in SPELLINGS.items() if linear(body).is_product] == ["one product"]


def test_a_product_with_a_constant_from_the_left_is_not_one_yet() -> None:
    assert not linear(SPELLINGS["base from the left"]).is_product


def test_an_added_constant_is_the_offset() -> None:
    found = linear("p = MatMul(theta, basis) q = Reshape(p, sizes) grid = Add(q, shift)")
    assert found.offset is not None
    np.testing.assert_allclose(found.offset.reshape(-1, 2), np.tile([0.25, -0.5], (HEIGHT * WIDTH, 1)))
    np.testing.assert_allclose(found.basis, affine_basis(), atol=1e-6)
    assert found.is_product


def test_the_residual_of_the_identity_is_taken_behind_the_sum_where_there_is_no_offset() -> None:
    body = PLAIN.replace("t = Reshape(theta, matrix)", "d = Reshape(theta, matrix) t = Add(d, identity)")
    found = linear(body)
    assert found.theta.name == "t"
    assert found.offset is None
    np.testing.assert_allclose(found.basis, affine_basis(), atol=1e-6)


def test_three_numbers_of_an_attention_give_three_rows() -> None:
    body = (
        "s, x, v = Split<axis = 1, num_outputs = 3>(theta) z = Sub(s, s)"
        " six = Concat<axis = 1>(s, z, x, z, s, v) p = MatMul(six, basis) grid = Reshape(p, sizes)"
    )
    found = linear(body, "float[N, 3] theta")
    basis = affine_basis()
    np.testing.assert_allclose(found.basis, [basis[0] + basis[4], basis[2], basis[5]], atol=1e-6)
    assert found.theta.name == "theta"


def test_constants_among_the_six_numbers_need_no_offset_where_the_six_are_one_tensor() -> None:
    body = (
        "n = Mul(theta, nought) i = Add(n, unity) six = Concat<axis = 1>(i, n, theta, n, i, n)"
        " p = MatMul(six, basis) grid = Reshape(p, sizes)"
    )
    found = linear(body, "float[N, 1] theta", nought=np.float32(0), unity=np.float32(1))
    assert found.theta.name == "six"
    assert found.offset is None
    np.testing.assert_allclose(found.basis, affine_basis(), atol=1e-6)


def test_the_last_layer_of_the_localisation_net_stays_out_of_the_grid() -> None:
    """Four features that make six numbers would be a smaller theta, but nobody would find theta again."""
    weight = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    body = PLAIN.replace("t = Reshape(theta", "six = Gemm(theta, weight, bias) t = Reshape(six")
    found = linear(body, "float[N, 4] theta", weight=weight, bias=np.ones(6, np.float32))
    assert found.theta.name == "six"


def test_what_comes_before_theta_need_not_be_linear() -> None:
    body = PLAIN.replace("theta, matrix", "tamed, matrix")
    found = linear(f"tamed = Tanh(theta) {body}")
    assert found.theta.name == "tamed"


def test_a_spline_of_many_numbers_is_found_too() -> None:
    basis = np.random.default_rng(0).standard_normal((50, HEIGHT * WIDTH * 2)).astype(np.float32)
    found = linear(
        "theta = Flatten(control) p = MatMul(theta, spline) q = Identity(p) grid = Reshape(q, wide)",
        "float[N, 5, 5, 2] control",
        spline=np.tile(basis, (1, 6)),
        wide=[-1, HEIGHT * 2, WIDTH * 3, 2],
    )
    np.testing.assert_allclose(found.basis, np.tile(basis, (1, 6)), atol=1e-5)
    assert found.size == (HEIGHT * 2, WIDTH * 3)


def test_bounded_thetas_that_are_joined_to_an_output_are_the_thetas_of_their_grids() -> None:
    """Only with the bounded numbers as theta is the product that of the output ``theta``."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 20]> graph (float[N, 12] raw, float[N, 1, 5, 7] image)'
        " => (float[N, 12] theta, float[N, 1, 4, 3] y, float[N, 1, 4, 3] z)"
        " { a, b = Split<axis = 1, num_outputs = 2>(raw) tame_a = Tanh(a) tame_b = Tanh(b)"
        " theta_a = Mul(tame_a, limit) theta_b = Mul(tame_b, limit)"
        " theta = Concat<axis = 1>(theta_a, theta_b) p = MatMul(theta_a, basis) q = MatMul(theta_b, basis)"
        " one = Reshape(p, sizes) other = Reshape(q, sizes) y = GridSample(image, one) z = GridSample(image, other) }"
    )
    limit = np.array([1.5, 0.4, 0.3, 0.4, 1.5, 0.3], np.float32)
    constants = {"limit": limit, "basis": affine_basis(), "sizes": np.array([-1, HEIGHT, WIDTH, 2])}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    grids = [node.inputs[1] for node in graph.graph if node.op_type == "GridSample"]
    for grid, theta in zip(grids, ("theta_a", "theta_b"), strict=True):
        assert grid is not None
        found = find_linear_grid(grid, graph)
        assert isinstance(found, LinearGrid)
        assert found.theta.name == theta
        assert found.is_product
        np.testing.assert_allclose(found.basis, affine_basis(), atol=1e-6)


# Grids that are not


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("grid = Tanh(raw)", "float[N, 12, 13, 2] raw"),
        ("grid = Identity(raw)", "float[N, 12, 13, 2] raw"),
        ("p = MatMul(theta, basis) grid = Reshape(p, sizes)", "float[N, P] theta"),
        ("q = MatMul(theta, basis) p = Reshape(q, sizes) grid = Tanh(p)", "float[N, 6] theta"),
    ],
    ids=["tanh", "larger than a theta", "unknown size", "behind other operators"],
)
def test_a_grid_without_a_small_theta_before_it_is_said(body: str, inputs: str) -> None:
    found = find(body, inputs, basis=affine_basis(12, 13), sizes=[-1, 12, 13, 2])
    assert found == "its grid is not computed from a small theta of known size by linear operators"


def test_a_grid_that_is_a_constant_has_no_theta() -> None:
    body = "grid = Reshape(flat, sizes)"
    flat = np.zeros(HEIGHT * WIDTH * 2, np.float32)
    assert "is not computed from a small theta" in str(find(body, "float[N, 6] unused", flat=flat))


def test_a_grid_in_half_precision_has_no_theta_in_float32() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 20]> graph (float16[N, 6] theta, float16[N, 1, 5, 7] image)'
        " => (float16[N, 1, 4, 3] y) { p = MatMul(theta, basis) grid = Reshape(p, sizes) y = GridSample(image, grid) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(affine_basis().astype(np.float16), "basis"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, HEIGHT, WIDTH, 2]), "sizes"))
    found = find_in(onnx.shape_inference.infer_shapes(model))
    assert found == "its grid is in float16; only one in float32 is made a product"


NOT_LINEAR = {
    "projective": "t = Reshape(theta, matrix3) p = Einsum<equation = 'nij,pj->npi'>(t, base)"
    " xy = Slice(p, zero, two, two) z = Slice(p, two, three, two) o = Mul(z, z) w = Add(o, half) q = Div(xy, w)",
    "projective that divides zero by zero": "t = Reshape(theta, matrix3) p = Einsum<equation = 'nij,pj->npi'>(t, base)"
    " xy = Slice(p, zero, two, two) z = Slice(p, two, three, two) q = Div(xy, z)",
}


@pytest.mark.parametrize("kind", NOT_LINEAR)
def test_a_projective_grid_does_not_depend_linearly_on_theta(kind: str) -> None:
    found = find(f"{NOT_LINEAR[kind]} grid = Reshape(q, sizes)", "float[N, 9] theta", **LARGE)
    assert found == "its grid does not depend linearly on theta"


def test_a_product_of_thetas_does_not_depend_linearly_on_theta() -> None:
    body = (
        "a, b = Split<axis = 1, num_outputs = 2>(theta) ab = Mul(a, b) all = Concat<axis = 1>(theta, ab)"
        " p = MatMul(all, rows) s = Mul(p, p) grid = Reshape(s, sizes)"
    )
    rows = np.random.default_rng(0).standard_normal((9, 12 * 13 * 2)).astype(np.float32)
    assert find(body, rows=rows, sizes=LARGE["sizes"]) == "its grid does not depend linearly on theta"


def test_a_grid_that_is_linear_in_products_of_thetas_is_a_product_of_those() -> None:
    body = (
        "a, b = Split<axis = 1, num_outputs = 2>(theta) ab = Mul(a, b) all = Concat<axis = 1>(theta, ab)"
        " p = MatMul(all, rows) grid = Reshape(p, sizes)"
    )
    rows = np.random.default_rng(0).standard_normal((9, 12 * 13 * 2)).astype(np.float32)
    found = linear(body, rows=rows, sizes=LARGE["sizes"])
    assert found.theta.name == "all"
    np.testing.assert_allclose(found.basis, rows, atol=1e-5)


def test_pictures_of_a_batch_that_exchange_their_thetas_are_not_linear_from_the_outside() -> None:
    """The nearest tensor behind the exchange is the theta."""
    body = "f = Slice(theta, last, before, zero, back) p = MatMul(f, basis) grid = Reshape(p, sizes)"
    found = linear(body, last=[-1], before=[-1000], back=[-1])
    assert found.theta.name == "f"


def test_a_sampling_size_that_follows_an_input_is_said() -> None:
    body = "t = Reshape(theta, matrix) s = Shape(picture) grid = AffineGrid(t, s)"
    found = find(body, "float[N, 6] theta, float[N, 1, H, W] picture")
    assert found == "its sampling size is dynamic: it follows the size of an input"


def test_a_sampling_size_of_a_tensor_of_unknown_shape_is_said() -> None:
    body = (
        "k = NonZero(picture) m = Squeeze(k, zero) c = Reshape(picture, m) s0 = Shape(c) s1 = Slice(s0, zero, one)"
        " a = Concat<axis = 0>(s1, rest) t = Reshape(theta, matrix) grid = AffineGrid(t, a)"
    )
    found = find(body, "float[N, 6] theta, float[9] picture")
    assert found == "its sampling size depends on a tensor of unknown shape"


def test_a_grid_of_another_shape_is_said() -> None:
    body = "p = MatMul(theta, basis) q = Reshape(p, swapped)"
    model = graph_of(f"{body} grid = Identity(q)", swapped=[-1, HEIGHT, WIDTH, 2])
    graph = ir.from_proto(model)
    product = next(node for node in graph.graph if node.op_type == "MatMul").outputs[0]
    assert find_linear_grid(product, graph) == "its grid has shape (24,) instead of (height, width, 2)"


def test_a_part_that_cannot_be_run_alone_is_said() -> None:
    """The batch was written into the code of a file that is said to take any."""
    torn = find("p = MatMul(theta, basis) grid = Reshape(p, fixed)", fixed=[7, HEIGHT, WIDTH, 2])
    assert isinstance(torn, str)
    assert torn.startswith("the part between theta and grid cannot be run alone (")
    assert "\n" not in torn


def test_one_theta_for_many_pictures_is_not_one_product() -> None:
    """The product would give one grid where the sampler needs as many as there are pictures."""
    body = (
        "p = MatMul(theta, basis) one_grid = Reshape(p, sizes) s = Shape(image) n = Slice(s, zero, one)"
        " a = Concat<axis = 0>(n, points) grid = Expand(one_grid, a)"
    )
    assert isinstance(find(body, "float[1, 6] theta"), str)


def test_a_grid_is_no_theta_of_itself() -> None:
    """A product of a grid with the identity would be slower, and spread one infinite point over all others."""
    body = "raw = Tanh(theta) grid = Reshape(raw, sizes)"
    assert isinstance(find(body, "float[N, 24] theta"), str)


# The fast sampler that is made of it


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


Fast = dict[tuple[str, str, int], tuple[ort.InferenceSession, ort.InferenceSession, onnx.ModelProto, Changes]]

HOMOGRAPHY = f"{NOT_LINEAR['projective']} grid = Reshape(q, sizes)"
GRIDS = {"linear": (PLAIN, 6), "residual": (PLAIN.replace("t = Reshape(theta", "r = Add(theta, eye) t = Reshape(r"), 6)}


def sampler_of(padding: str, corners: int, mode: str = "linear") -> str:
    return f'<mode = "{mode}", padding_mode = "{padding}", align_corners = {corners}>'


@pytest.fixture(scope="module")
def fast() -> Fast:
    """Samplers before and after, for linear and projective grids of 12 x 13 points."""
    found = {}
    for name, (body, numbers) in (GRIDS | {"projective": (HOMOGRAPHY, 9)}).items():
        for padding in ("zeros", "border"):
            for corners in (0, 1):
                before = graph_of(body, f"float[N, {numbers}] theta", sampler=sampler_of(padding, corners), **LARGE)
                graph, changes = ir.from_proto(before), Changes()
                fold_constants(graph)
                rewrite_samplers(graph, changes)
                after = ir.to_proto(graph)
                onnx.checker.check_model(after, full_check=True)
                found[name, padding, corners] = session(before), session(after), after, changes
    return found


def last_sampler(model: onnx.ModelProto) -> dict[str, object]:
    [node] = [node for node in model.graph.node if node.op_type == "GridSample"]
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("grid", ["linear", "residual", "projective"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 4), reach=st.sampled_from([0.3, 1.0, 3.0, 40.0]))
def test_the_fast_sampler_answers_as_the_old_one_near_and_far(
    fast: Fast,
    grid: str,
    padding: str,
    corners: int,
    seed: int,
    batch: int,
    reach: float,
) -> None:
    before, after, _, _ = fast[grid, padding, corners]
    random = np.random.default_rng(seed)
    feeds = {
        "theta": random.normal(0, reach, (batch, 9 if grid == "projective" else 6)).astype(np.float32),
        "image": random.random((batch, 1, *IMAGE), np.float32),
    }
    expected, actual = before.run(None, feeds)[0], after.run(None, feeds)[0]
    # coordinates of float32 are off by 1e-7 of their size, which 7 pixels of at most 1 multiply by 3.5
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1.0, reach))


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("grid", ["linear", "residual", "projective"])
def test_the_sampler_has_the_fast_attributes_and_says_what_was_done(
    fast: Fast,
    grid: str,
    padding: str,
    corners: int,
) -> None:
    _, _, model, changes = fast[grid, padding, corners]
    found = last_sampler(model)
    assert (found["padding_mode"], found["align_corners"]) == (b"zeros", 0)
    made = " ".join(changes.made)
    assert ("align_corners of" in made) == bool(corners)
    assert ("border padding of" in made) == (padding == "border")
    assert "is one matrix product with a constant" in made
    assert changes.kept == []


def test_what_is_kept_is_said_once() -> None:
    """The rewriter looks at a sampler again after its padding was changed."""
    body = "q = MatMul(theta, rows) a = Softmax(q) grid = Reshape(a, sizes)"
    rows = np.random.default_rng(0).standard_normal((6, 12 * 13 * 2)).astype(np.float32)
    graph = ir.from_proto(graph_of(body, sampler=sampler_of("border", 1), rows=rows, sizes=LARGE["sizes"]))
    changes = Changes()
    rewrite_samplers(graph, changes)
    assert len(changes.made) == 2
    [sentence] = changes.kept
    assert sentence.endswith(": its grid is not computed from a small theta of known size by linear operators")


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_the_fast_sampler_answers_as_pytorch(
    fast: Fast,
    padding: str,
    corners: int,
) -> None:
    random = np.random.default_rng(3)
    theta, image = random.normal(0, 1.5, (8, 6)).astype(np.float32), random.random((8, 1, *IMAGE), np.float32)
    [actual] = fast["linear", padding, corners][1].run(None, {"theta": theta, "image": image})
    points = functional.affine_grid(torch.from_numpy(theta).reshape(8, 2, 3), [8, 1, 12, 13], align_corners=False)
    expected = functional.grid_sample(
        torch.from_numpy(image), points, padding_mode=padding, align_corners=bool(corners)
    )
    np.testing.assert_allclose(actual, expected.numpy(), atol=2e-5)


@pytest.mark.parametrize(("mode", "padding"), [("linear", "reflection"), ("nearest", "border"), ("cubic", "border")])
def test_samplers_without_a_fast_equal_keep_their_attributes(mode: str, padding: str) -> None:
    graph, changes = ir.from_proto(graph_of(PLAIN, sampler=sampler_of(padding, 1, mode))), Changes()
    rewrite_samplers(graph, changes)
    expected = {"mode": mode.encode(), "padding_mode": padding.encode(), "align_corners": 1}
    assert last_sampler(ir.to_proto(graph)) == expected
    assert [text.split(" of ")[0] for text in changes.made] == ["the grid"]


def test_rewriting_twice_changes_nothing_the_second_time() -> None:
    for padding in ("zeros", "border"):
        graph = ir.from_proto(graph_of(PLAIN, sampler=sampler_of(padding, 1)))
        rewrite_samplers(graph, Changes())
        once, again = ir.to_proto(graph).SerializeToString(deterministic=True), Changes()
        rewrite_samplers(graph, again)
        assert again.made == []
        assert ir.to_proto(graph).SerializeToString(deterministic=True) == once


def test_a_picture_one_pixel_high_is_sampled_as_before() -> None:
    model = graph_of(PLAIN, sampler=sampler_of("border", 1))
    for entry in model.graph.input:
        if entry.name == "image":
            entry.type.tensor_type.shape.dim[2].dim_value = 1
    graph = ir.from_proto(model)
    rewrite_samplers(graph, Changes())
    random = np.random.default_rng(0)
    feeds = {"theta": random.normal(0, 2, (4, 6)).astype(np.float32), "image": random.random((4, 1, 1, 7), np.float32)}
    [expected], [actual] = session(model).run(None, feeds), session(ir.to_proto(graph)).run(None, feeds)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("theta", ["float[1, 2, 3] theta", "float[2, 2, 3] theta"], ids=["one of four", "two of four"])
def test_a_grid_that_serves_several_pictures_of_a_fixed_batch_is_left_right(theta: str) -> None:
    """One theta expanded to the batch, or each of two repeated: the product would make too few grids."""
    one = theta.startswith("float[1")
    spread = "grid = Expand(g, all)" if one else "grid = Tile(g, twice)"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 20]> graph ({theta}, float[4, 1, 5, 7] image) => (float[4, 1, 4, 3] y)'
        ' { p = Einsum<equation = "nij,pj->npi">(theta, base) g = Reshape(p, sizes)'
        f" {spread} y = GridSample<align_corners = 1>(image, grid) }}"
    )
    constants = {"base": base(), "sizes": np.array([-1, HEIGHT, WIDTH, 2])}
    constants |= {"all": np.array([4, HEIGHT, WIDTH, 2])} if one else {"twice": np.array([2, 1, 1, 1])}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    fold_constants(graph)
    rewrite_samplers(graph, Changes())
    random = np.random.default_rng(0)
    thetas = random.normal(0, 1, (1 if one else 2, 2, 3)).astype(np.float32)
    feeds = {"theta": thetas, "image": random.random((4, 1, *IMAGE), np.float32)}
    points = (base() @ thetas.transpose(0, 2, 1)).reshape(-1, HEIGHT, WIDTH, 2)
    points = torch.from_numpy(np.tile(points, (4 // len(points), 1, 1, 1)))
    expected = functional.grid_sample(torch.from_numpy(feeds["image"]), points, align_corners=True)
    written = ir.to_proto(graph)
    [actual] = session(written).run(None, feeds)
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)
    assert last_sampler(written)["align_corners"] == 0


def test_a_map_that_is_infinite_somewhere_is_not_linear() -> None:
    """A homography divides by zero at the unit vector of a number below its line."""
    points = np.zeros((6, 4), np.float32)
    assert linear_map(points) is not None
    points[2, 1] = -np.inf
    assert linear_map(points) is None


def test_a_huge_number_near_a_pole_does_not_hide_that_the_others_are_not_linear() -> None:
    rows = probing_rows(2)
    points = np.stack([1e9 * rows[:, 0], rows[:, 0] * rows[:, 1]], axis=1).astype(np.float32)
    assert linear_map(points) is None
    points[:, 1] = rows[:, 1]
    assert linear_map(points) is not None
