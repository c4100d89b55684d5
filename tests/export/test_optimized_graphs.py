"""Graphs made by hand, one for each thing that a rewrite must not lose, through ``optimize_onnx``."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional

from stn_export import optimize_onnx
from stn_export.forms.targets import find_target
from stn_export.linting import lint
from tests.support.graphs import (
    assert_equal,
    attributes,
    hand_made,
    run,
    run_all,
    sampler_in_a_function,
    samplers,
    steps_of,
)
from tests.support.transformer_files import SIZE, FollowsTheSize, base, pictures

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning"
)


def test_a_file_without_a_sampler_is_copied_byte_for_byte_and_says_so(tmp_path: Path) -> None:
    source, target = tmp_path / "plain.onnx", tmp_path / "copy.onnx"
    onnx.save(hand_made("y = Relu(x)", "float[N, 3] x", "float[N, 3] y"), source)
    result = optimize_onnx(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert result.is_unchanged
    assert result.changes.kept == ["there is no GridSample in it"]


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
