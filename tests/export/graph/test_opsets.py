"""Graphs brought to an older opset answer as before, or stay exactly as they are."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from stn_export.graph.opsets import lower_opset
from stn_export.graph.rewrites import Changes

SAMPLER_INPUTS = "float[N, 1, 5, 7] x, float[N, 4, 3, 2] grid"


def graph_of(
    body: str, inputs: str = "float[2, 3, 4] x", opset: int = 20, output: str | None = None, **constants: object
) -> onnx.ModelProto:
    """Return a graph whose output is y, of a shape that follows from its operators unless it is given."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> graph ({inputs}) => ({output or "float[0] y"}) {{ {body} }}'
    )
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    if output is None:
        model.graph.output[0].type.tensor_type.ClearField("shape")
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def lowered(model: onnx.ModelProto, opset: int) -> tuple[onnx.ModelProto, str | None, Changes]:
    """Return a graph brought to an opset, why it could not be, and what was said."""
    graph, changes = ir.from_proto(model), Changes()
    obstacle = lower_opset(graph, opset, changes)
    return ir.to_proto(graph), obstacle, changes


def assert_lowered(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return a graph brought to an opset, valid there, with the same answers."""
    result, obstacle, changes = lowered(model, opset)
    before = model.opset_import[0].version
    assert obstacle is None
    assert [(entry.domain, entry.version) for entry in result.opset_import] == [("", opset)]
    assert changes.made == [f"opset {before} is now {opset}, which more engines read right"]
    onnx.checker.check_model(result, full_check=True)
    random = np.random.default_rng(0)
    feeds = {
        value.name: random.uniform(0.1, 0.9, [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]).astype("f")
        for value in model.graph.input
    }
    np.testing.assert_allclose(run(result, feeds), run(model, feeds), rtol=1e-6)
    return result


def run(model: onnx.ModelProto, feeds: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(None, feeds)[0]
    return answer


def assert_refused(model: onnx.ModelProto, opset: int, sentence: str) -> None:
    """Check that nothing was changed, down to the bytes."""
    untouched = ir.to_proto(ir.from_proto(model)).SerializeToString(deterministic=True)
    result, obstacle, changes = lowered(model, opset)
    assert obstacle == sentence
    assert result.SerializeToString(deterministic=True) == untouched
    assert changes == Changes()


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("", b"bilinear"),
        ('<mode = "linear">', b"bilinear"),
        ('<mode = "cubic">', b"bicubic"),
        ('<mode = "nearest">', b"nearest"),
    ],
)
@pytest.mark.parametrize("opset", [20, 22])
def test_modes_of_the_sampler_get_the_names_that_they_had_before_opset_20(
    attribute: str, name: bytes, opset: int
) -> None:
    model = graph_of(f"y = GridSample{attribute}(x, grid)", SAMPLER_INPUTS, opset)
    [node] = assert_lowered(model, 18).graph.node
    assert attributes(node)["mode"] == name


def test_names_stay_between_opsets_that_both_have_the_new_ones() -> None:
    model = graph_of('y = GridSample<mode = "linear">(x, grid)', SAMPLER_INPUTS, opset=22)
    [node] = assert_lowered(model, 20).graph.node
    assert attributes(node)["mode"] == b"linear"


def test_other_attributes_of_the_sampler_stay() -> None:
    body = 'y = GridSample<mode = "linear", padding_mode = "border", align_corners = 1>(x, grid)'
    [node] = assert_lowered(graph_of(body, SAMPLER_INPUTS), 16).graph.node
    assert attributes(node) == {"mode": b"bilinear", "padding_mode": b"border", "align_corners": 1}


def test_a_sampler_of_volumes_is_refused_because_only_opset_20_has_it() -> None:
    model = graph_of("y = GridSample(x, grid)", "float[N, 1, 5, 7, 6] x, float[N, 4, 3, 2, 3] grid")
    _, obstacle, _ = lowered(model, 18)
    assert obstacle is not None, "GridSample-16 takes (N, C, H, W) and (N, H_out, W_out, 2)"
    assert "GridSample" in obstacle


@pytest.mark.parametrize(
    "kind",
    ["Mean", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "LogSum", "SumSquare"],
    ids=lambda kind: f"Reduce{kind}",
)
def test_the_axes_of_a_reduction_become_an_attribute_below_opset_18(kind: str) -> None:
    model = graph_of(f"y = Reduce{kind}<keepdims = 0>(x, axes)", axes=[-1, 1])
    [node] = assert_lowered(model, 17).graph.node
    assert list(node.input) == ["x"]
    assert attributes(node) == {"axes": [-1, 1], "keepdims": 0}


def test_the_axes_of_a_sum_stay_an_input_down_to_opset_13() -> None:
    [node] = assert_lowered(graph_of("y = ReduceSum(x, axes)", axes=[1]), 13).graph.node
    assert list(node.input) == ["x", "axes"]


def test_a_reduction_over_everything_needs_no_axes() -> None:
    [node] = assert_lowered(graph_of("y = ReduceMean(x)"), 13).graph.node
    assert "axes" not in attributes(node)


def test_axes_that_are_computed_are_refused() -> None:
    model = graph_of(
        "shape = Shape(x) axes = Sub(one, one) y = ReduceMean(x, axes)", output="float[a, b, c] y", one=[1]
    )
    assert_refused(model, 13, "ReduceMean takes more inputs than in opset 13, so it stays opset 20")


def test_a_reduction_that_may_do_nothing_is_refused() -> None:
    model = graph_of("y = ReduceMean<noop_with_empty_axes = 1>(x)")
    assert_refused(
        model, 13, "ReduceMean uses 'noop_with_empty_axes', which opset 13 does not have, so it stays opset 20"
    )


def test_allowzero_is_dropped_where_no_size_is_zero() -> None:
    [node] = assert_lowered(graph_of("y = Reshape<allowzero = 1>(x, shape)", shape=[2, -1]), 13).graph.node
    assert attributes(node) == {}


def test_allowzero_is_kept_where_the_older_opset_has_it() -> None:
    [node] = assert_lowered(graph_of("y = Reshape<allowzero = 1>(x, shape)", shape=[2, -1]), 14).graph.node
    assert attributes(node) == {"allowzero": 1}


def test_allowzero_is_refused_where_a_size_is_zero() -> None:
    model = graph_of("y = Reshape<allowzero = 1>(x, shape)", "float[2, 0, 4] x", shape=[0, 8])
    assert_refused(model, 13, "Reshape uses 'allowzero', which opset 13 does not have, so it stays opset 20")


def test_a_default_that_is_written_out_is_dropped() -> None:
    [node] = assert_lowered(graph_of("y = Reshape<allowzero = 0>(x, shape)", shape=[0, -1]), 13).graph.node
    assert attributes(node) == {}


@pytest.mark.parametrize(
    ("body", "kind", "first"), [("y = Gelu(x)", "Gelu", 20), ("y = Mish(x)", "Mish", 18)], ids=["Gelu", "Mish"]
)
def test_an_operator_that_the_older_opset_lacks_is_refused_by_its_name(body: str, kind: str, first: int) -> None:
    assert_refused(graph_of(body), 17, f"{kind} exists only from opset {first} on, so it stays opset 20")


def test_the_sampler_itself_is_refused_below_opset_16() -> None:
    model = graph_of("y = GridSample(x, grid)", SAMPLER_INPUTS)
    assert_refused(model, 13, "GridSample exists only from opset 16 on, so it stays opset 20")


def test_nothing_is_changed_when_the_last_of_many_operators_is_refused() -> None:
    body = 'm = ReduceMean(x, axes) s = GridSample<mode = "cubic">(x, grid) z = Mul(s, m) y = Gelu(z)'
    model = graph_of(body, SAMPLER_INPUTS, axes=[2, 3])
    assert_refused(model, 17, "Gelu exists only from opset 20 on, so it stays opset 20")


def test_an_operator_in_a_branch_counts_too() -> None:
    branches = "then_branch = a () => (float[2] b) { b = Gelu(x) }, else_branch = c () => (float[2] d) { d = Relu(x) }"
    model = graph_of(f"y = If(condition) <{branches}>", inputs="float[2] x, bool condition")
    assert_refused(model, 18, "Gelu exists only from opset 20 on, so it stays opset 20")


def test_a_sampler_in_a_branch_gets_its_old_name() -> None:
    branches = (
        'then_branch = a () => (float[N, 1, 4, 3] b) { b = GridSample<mode = "linear">(x, grid) },'
        " else_branch = c () => (float[N, 1, 4, 3] d) { d = GridSample(x, grid) }"
    )
    model = graph_of(f"y = If(condition) <{branches}>", f"{SAMPLER_INPUTS}, bool condition")
    result, obstacle, _ = lowered(model, 18)
    assert obstacle is None
    inner = [entry.g.node[0] for entry in result.graph.node[0].attribute]
    assert [attributes(node)["mode"] for node in inner] == [b"bilinear", b"bilinear"]


@pytest.mark.parametrize("opset", [16, 18])
def test_a_graph_at_the_opset_or_below_stays_as_it_is(opset: int) -> None:
    model = graph_of('y = GridSample<mode = "bilinear">(x, grid)', SAMPLER_INPUTS, opset)
    result, obstacle, changes = lowered(model, 18)
    assert obstacle is None
    assert changes == Changes()
    assert result == ir.to_proto(ir.from_proto(model))


def test_operators_of_other_domains_stay_as_they_are() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 20, "com.microsoft": 1]> graph (float[2, 3] x) => (float[2, 3] y)'
        " { z = com.microsoft.Gelu(x) y = Relu(z) }"
    )
    result, obstacle, _ = lowered(model, 17)
    assert obstacle is None
    assert {entry.domain: entry.version for entry in result.opset_import} == {"": 17, "com.microsoft": 1}
    assert [(node.domain, node.op_type) for node in result.graph.node] == [("com.microsoft", "Gelu"), ("", "Relu")]


def test_the_standard_domain_under_its_other_name_is_lowered_too() -> None:
    model = graph_of('y = GridSample<mode = "linear">(x, grid)', SAMPLER_INPUTS)
    model.opset_import[0].domain = model.graph.node[0].domain = "ai.onnx"
    result, obstacle, _ = lowered(model, 18)
    assert obstacle is None
    assert [entry.version for entry in result.opset_import] == [18]
    assert attributes(result.graph.node[0])["mode"] == b"bilinear"


@pytest.mark.parametrize(
    "part", ["start = 1", "end = 3", "start = -2", "end = -1", "start = 1, end = 3", "start = -3, end = -1", "end = 9"]
)
def test_the_shape_of_some_axes_becomes_a_slice_of_the_shape_of_all(part: str) -> None:
    model = graph_of(f"s = Shape<{part}>(x) y = Cast<to = 1>(s)", "float[2, 3, 4, 5] x")
    result = assert_lowered(model, 13)
    assert [node.op_type for node in result.graph.node] == ["Shape", "Slice", "Cast"]
    assert attributes(result.graph.node[0]) == {}


def test_the_shape_of_all_axes_stays_one_operator() -> None:
    result = assert_lowered(graph_of("s = Shape(x) y = Cast<to = 1>(s)"), 13)
    assert [node.op_type for node in result.graph.node] == ["Shape", "Cast"]


def test_the_shape_of_some_axes_keeps_them_where_the_older_opset_has_them() -> None:
    [node, _] = assert_lowered(graph_of("s = Shape<start = 1>(x) y = Cast<to = 1>(s)"), 15).graph.node
    assert attributes(node) == {"start": 1}


@pytest.mark.parametrize(
    ("body", "first", "reason"),
    [
        (
            'y = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric">(x, , scales)',
            19,
            "Resize has the coordinate_transformation_mode 'half_pixel_symmetric', which opset 18 does not have",
        ),
        ('y = Pad<mode = "wrap">(x, pads)', 19, "Pad has the mode 'wrap', which opset 18 does not have"),
        (
            "q = QuantizeLinear(x, one, zero) y = DequantizeLinear(q, one, zero)",
            21,
            "QuantizeLinear of uint16 exists only after opset 18",
        ),
    ],
)
def test_a_value_or_a_type_that_the_older_opset_lacks_is_refused(body: str, first: int, reason: str) -> None:
    known: dict[str, object] = {
        "scales": np.array([1, 1, 2], np.float32),
        "pads": [0, 0, 1, 0, 0, 1],
        "one": np.float32(1),
        "zero": np.uint16(0),
    }
    model = graph_of(body, opset=22, **{name: value for name, value in known.items() if name in body})
    assert_refused(model, 18, f"{reason}, so it stays opset 22")
    _, obstacle, _ = lowered(model, first)
    assert obstacle is None


def test_a_slice_of_a_shape_that_is_an_output_keeps_its_name() -> None:
    text = '<ir_version: 8, opset_import: ["": 18]> graph (float[2,3,4] x) => (int64[k] y) { y = Shape<start = 1>(x) }'
    result, obstacle, _ = lowered(onnx.parser.parse_model(text), 13)
    assert obstacle is None
    assert [value.name for value in result.graph.output] == ["y"]
    answer = ort.InferenceSession(result.SerializeToString()).run(None, {"x": np.zeros((2, 3, 4), np.float32)})[0]
    assert answer.tolist() == [3, 4]


def test_text_that_says_what_the_older_opset_does_anyway_is_left_out() -> None:
    body = 'y = Resize<mode = "nearest", keep_aspect_ratio_policy = "stretch">(x, , , sizes)'
    model, obstacle, _ = lowered(graph_of(body, opset=18, sizes=[2, 3, 8]), 13)
    assert obstacle is None
    assert [attribute.name for attribute in model.graph.node[0].attribute] == ["mode"]
    kept = body.replace("stretch", "not_larger")
    _, obstacle, _ = lowered(graph_of(kept, opset=18, sizes=[2, 3, 8]), 13)
    assert str(obstacle).startswith("Resize uses 'keep_aspect_ratio_policy', which opset 13 does not have")
