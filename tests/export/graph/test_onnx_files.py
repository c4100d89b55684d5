"""Files too large to be read, and functions counted before they are written out."""

import math
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from stn_export.graph.onnx_files import read_onnx, written_out_size
from stn_runtime import ModelContractError
from tests.stress.hostile_parts import nested_functions


def _file(calls: dict[str, list[str]], nodes: list[str]) -> onnx.ModelProto:
    """Return a file whose functions, by name, and whose graph call operators and functions in a chain."""

    def chain(names: list[str]) -> list[onnx.NodeProto]:
        return [
            helper.make_node(name, [f"x{step}"], [f"x{step + 1}"], domain="own" if name in calls else "")
            for step, name in enumerate(names)
        ]

    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function("own", name, ["x0"], [f"x{len(called)}"], chain(called), imports)
        for name, called in calls.items()
    ]
    value = helper.make_tensor_value_info("x0", TensorProto.FLOAT, (1,))
    graph = helper.make_graph(chain(nodes), "g", [value], [])
    return helper.make_model(graph, functions=functions, opset_imports=imports)


@pytest.mark.parametrize(
    ("calls", "nodes", "size"),
    [
        ({}, [], 0),
        ({}, ["Abs", "Neg"], 2),
        ({"f": ["Abs", "Neg", "Abs"]}, ["f", "Exp", "f"], 7),
        ({"f": ["g", "g"], "g": ["Abs", "Neg"]}, ["f"], 4),
        ({"g": ["Abs", "Neg"], "f": ["g", "h", "g"], "h": ["g", "g"]}, ["f", "h"], 12),
        ({"f": []}, ["f", "Abs"], 1),
        ({"f": ["f"]}, ["f"], math.inf),
        ({"f": ["Abs", "f"]}, ["f"], math.inf),
        ({"f": ["g"], "g": ["h", "Abs"], "h": ["f"]}, ["g"], math.inf),
    ],
)
def test_the_nodes_of_a_file_are_counted_with_its_functions_written_out(
    calls: dict[str, list[str]], nodes: list[str], size: float
) -> None:
    assert written_out_size(_file(calls, nodes)) == size


def test_functions_that_double_are_counted_without_writing_them_out() -> None:
    model = onnx.load_from_string(nested_functions(40))
    assert written_out_size(model) == 2**40 + len(model.graph.node) - 1


def test_nodes_of_inner_graphs_count_too() -> None:
    inner = helper.make_graph([helper.make_node("f", [], ["y"], domain="own")], "inner", [], [])
    branch = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    function = helper.make_function("own", "f", [], ["y"], [helper.make_node("Abs", ["x"], ["y"])] * 5, [])
    model = helper.make_model(helper.make_graph([branch], "g", [], []), functions=[function])
    assert written_out_size(model) == 11


def test_a_file_larger_than_any_model_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse.onnx"
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)
    with pytest.raises(ModelContractError, match=r"sparse\.onnx: is larger than 2 GiB, which no ONNX file can be; "):
        read_onnx(path)
