"""A graph in float16 and its twin in float32."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from stn_export.graph.half_precision import has_half, in_float32

BODY = "a = Mul(x, k) b = Add(a, c) w = Cast<to = 1>(b) h = Cast<to = 10>(w) y = Tanh(h)"


def graph() -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> graph (float16[N, 3] x) => (float16[N, 3] y) {{ {BODY} }}'
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([0.1, 0.2, 0.3], np.float16), "k"))
    shift = numpy_helper.from_array(np.array([0.3333], np.float16))
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["c"], value=shift))
    return model


def test_the_twin_computes_in_float32_with_the_constants_of_the_graph() -> None:
    wide = in_float32(graph())
    onnx.checker.check_model(wide, full_check=True)
    assert not has_half(wide)
    x = np.random.default_rng(0).random((4, 3)).astype(np.float16)
    session = ort.InferenceSession(wide.SerializeToString(), providers=["CPUExecutionProvider"])
    [actual] = session.run(None, {"x": x.astype(np.float32)})
    factors = np.array([0.1, 0.2, 0.3], np.float16).astype(np.float64)
    expected = np.tanh(x.astype(np.float64) * factors + np.float64(np.float16(0.3333)))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_the_graph_itself_stays_as_it_was() -> None:
    model = graph()
    before = model.SerializeToString(deterministic=True)
    assert has_half(model)
    in_float32(model)
    assert model.SerializeToString(deterministic=True) == before
