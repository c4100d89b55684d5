"""Parts of hostile model files, made with onnx alone: manifests, shapes and values of outputs, text, endless work."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stn_runtime import ExportSpec
from stn_runtime.model.manifest import METADATA_KEY
from stn_runtime.model.session import CLASSIFIER_KEY
from tests.support.tiny_model import HEIGHT, THETA, WIDTH, make_graph, make_manifest, outline_of_theta

ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\x08\u202eevil\u2066\u200b\x9b31m"
"""Clears a terminal, renames its window, begins a line, goes back, and turns the direction of writing."""

MEGABYTE = "x" * 1_000_000
GOOD: Mapping[str, NDArray[Any]] = {
    "probabilities": np.array([0.25, 0.5, 0.25], np.float32),
    "theta": THETA,
    "outline": outline_of_theta()[None],
    "rectified": np.zeros((3, 4, 1), np.uint8),
}
"""What a sound file answers of one picture."""


def model_bytes(
    nodes: Sequence[onnx.NodeProto],
    values: Mapping[str, Any],
    outputs: Sequence[onnx.ValueInfoProto],
    metadata: Mapping[str, str] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    initializers: Sequence[onnx.TensorProto] = (),
) -> bytes:
    """Return a file of a graph whose input is ``image``, with the manifest of the tiny grey model unless told."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ("N", HEIGHT, WIDTH, 1))
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "hostile", inputs or [image], outputs, [*constants, *initializers])
    domains = [helper.make_opsetid("", 18), *([helper.make_opsetid("evil", 1)] if functions else [])]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8, functions=functions)
    helper.set_model_props(model, dict({METADATA_KEY: make_manifest(1).to_json()} if metadata is None else metadata))
    return model.SerializeToString()


def with_manifest(text: str, **metadata: str) -> bytes:
    """Return the sound tiny grey model with another manifest."""
    model = make_graph(1)
    helper.set_model_props(model, {METADATA_KEY: text} | metadata)
    return model.SerializeToString()


def changed(path: str, value: object) -> bytes:
    """Return the tiny grey model with one field of its manifest changed, by a path such as ``transformers.0.theta``."""
    data = json.loads(make_manifest(1).to_json())
    place, *names = data, *path.split(".")
    for name in names[:-1]:
        place = place[int(name) if name.isdecimal() else name]
    place[int(names[-1]) if names[-1].isdecimal() else names[-1]] = value
    return with_manifest(json.dumps(data))


def written(before: str, after: str) -> bytes:
    """Return the tiny grey model with a piece of its manifest's text replaced."""
    text = make_manifest(1).to_json()
    if text.count(before) != 1:
        raise ValueError(f"{before} stands {text.count(before)} times in the manifest")
    return with_manifest(text.replace(before, after))


def answering(
    *, hides: bool = True, declared: Mapping[str, Sequence[int | str]] | None = None, **changes: NDArray[Any]
) -> bytes:
    """Return a file that gives the same answer to every picture.

    Args:
        hides: Whether the sizes can only be found out by running it.
        declared: Sizes that outputs are said to have, (N, ...), instead of those of the sound file.
        changes: Answers for one picture, by output, instead of those of the sound file.
    """
    nodes = [
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
        helper.make_node("Sub", ["batch", "batch"], ["zero"]),
    ]
    values: dict[str, Any] = {}
    outputs = []
    for name, good in GOOD.items():
        array = changes.get(name, good)
        values |= {f"{name}_value": array[None], f"{name}_sizes": np.array(array.shape, np.int64)}
        sizes = f"{name}_sizes"
        if hides:
            sizes = f"{name}_hidden"
            nodes.append(helper.make_node("Add", [f"{name}_sizes", "zero"], [sizes]))
        nodes += [
            helper.make_node("Concat", ["batch", sizes], [f"{name}_shape"], axis=0),
            helper.make_node("Expand", [f"{name}_value", f"{name}_shape"], [name]),
        ]
        shape = (declared or {}).get(name, ("N", *(good if hides else array).shape))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        outputs.append(helper.make_tensor_value_info(name, kind, shape))
    return model_bytes(nodes, values, outputs)


def with_probabilities(
    nodes: Sequence[onnx.NodeProto],
    values: Mapping[str, Any],
    output: onnx.ValueInfoProto | None = None,
    **options: Any,  # noqa: ANN401
) -> bytes:
    """Return a file whose only output is made by ``nodes``."""
    metadata = {METADATA_KEY: make_manifest(1, outputs=("probabilities",), transformers=()).to_json()}
    output = output or helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ("N", 3))
    return model_bytes(nodes, values, [output], metadata, **options)


def _uniform(source: str) -> list[onnx.NodeProto]:
    """Make ``probabilities``, (N, 3), a third each, of the pixels and of any float tensor, which must be computed."""
    return [
        helper.make_node("ReduceSum", [source], ["one_number"], keepdims=0),
        helper.make_node("Mul", ["one_number", "nought"], ["nothing"]),
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "three"], ["shape"], axis=0),
        helper.make_node("Add", ["nothing", "third"], ["each"]),
        helper.make_node("Expand", ["each", "shape"], ["probabilities"]),
    ]


UNIFORM = {"nought": np.float32(0), "three": np.array([3]), "third": np.float32(1 / 3)}


def long_loop(count: int = 10**9, *, in_constants: bool = False) -> bytes:
    """Return a file that adds one, ``count`` times."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["x", "unit"], ["x_next"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("x_next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Loop", ["count", "yes", "start" if in_constants else "pixels"], ["sum"], body=body),
        *_uniform("sum"),
    ]
    values = UNIFORM | {"count": np.int64(count), "yes": np.array(True), "unit": np.float32(1)}
    return with_probabilities(nodes, values | {"start": np.zeros(3, np.float32)})


def doubling(times: int, *, in_constants: bool) -> bytes:
    """Return a file whose tensor doubles with each node; of constants, onnxruntime computes it while it loads."""
    first = [helper.make_node("Cast", ["image"], ["x0"], to=TensorProto.FLOAT)]
    values: dict[str, Any] = dict(UNIFORM)
    if in_constants:
        first, values = [helper.make_node("Identity", ["seed"], ["x0"])], values | {"seed": np.ones(1024, np.float32)}
    nodes = [helper.make_node("Concat", [f"x{step}", f"x{step}"], [f"x{step + 1}"], axis=0) for step in range(times)]
    return with_probabilities([*first, *nodes, *_uniform(f"x{times}")], values)


def filled(count: int) -> bytes:
    """Return a file that fills so many numbers: gigabytes."""
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Shape", ["image"], ["of_image"], start=0, end=1),
        helper.make_node("Sub", ["of_image", "of_image"], ["zero"]),
        helper.make_node("Add", ["many", "zero"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["gigabytes"], value=value),
        *_uniform("gigabytes"),
    ]
    return with_probabilities(nodes, UNIFORM | {"many": np.array([count], np.int64)})


def nested_functions(depth: int) -> bytes:
    """Return a file of functions, each of which calls the one before twice: 2 ** depth nodes."""
    functions = []
    for level in range(depth):
        kind, domain = ("Identity", "") if level == 0 else (f"f{level - 1}", "evil")
        calls = [
            helper.make_node(kind, ["x"], ["between"], domain=domain),
            helper.make_node(kind, ["between"], ["y"], domain=domain),
        ]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("evil", 1)]
        functions.append(helper.make_function("evil", f"f{level}", ["x"], ["y"], calls, imports))
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node(f"f{depth - 1}", ["pixels"], ["same"], domain="evil"),
        *_uniform("same"),
    ]
    return with_probabilities(nodes, UNIFORM, functions=functions)


def large_product(size: int) -> bytes:
    """Return a file that multiplies two square matrices in one node, which nothing can interrupt."""
    nodes = [
        helper.make_node("Shape", ["image"], ["of_image"], start=0, end=1),
        helper.make_node("Sub", ["of_image", "of_image"], ["zero"]),
        helper.make_node("Add", ["sizes", "zero"], ["square"]),
        helper.make_node(
            "ConstantOfShape", ["square"], ["a"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
        ),
        helper.make_node("MatMul", ["a", "a"], ["product"]),
        *_uniform("product"),
    ]
    return with_probabilities(nodes, UNIFORM | {"sizes": np.array([size, size], np.int64)})


def external(location: str) -> bytes:
    """Return a file whose three probabilities lie in another file."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[1, 3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "three"], ["shape"], axis=0),
        helper.make_node("Expand", ["weights", "shape"], ["probabilities"]),
    ]
    return with_probabilities(nodes, {"three": np.array([3])}, initializers=[tensor])


def promised(elements: int) -> bytes:
    """Return a file with a constant that is said to have so many elements, and has four bytes."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[1, elements], raw_data=b"\0\0\0\0")
    return with_probabilities([helper.make_node("Identity", ["weights"], ["probabilities"])], {}, initializers=[tensor])


def of_other_kind(kind: str) -> bytes:
    """Return a file whose output ``probabilities`` is a sequence, a map, text, or optional."""
    text = helper.make_tensor("words", TensorProto.STRING, [1, 3], [b"0.2", b"0.3", b"0.5"])
    if kind == "text":
        output = helper.make_tensor_value_info("probabilities", TensorProto.STRING, ("N", 3))
        return with_probabilities(
            [helper.make_node("Identity", ["words"], ["probabilities"])], {}, output, initializers=[text]
        )
    number = np.full((1, 3), 1 / 3, np.float32)
    if kind == "sequence":
        output = helper.make_tensor_sequence_value_info("probabilities", TensorProto.FLOAT, None)
        return with_probabilities(
            [helper.make_node("SequenceConstruct", ["number"], ["probabilities"])], {"number": number}, output
        )
    tensor_type = helper.make_tensor_type_proto(TensorProto.FLOAT, ("N", 3))
    output = helper.make_value_info("probabilities", helper.make_optional_type_proto(tensor_type))
    return with_probabilities([helper.make_node("Optional", ["number"], ["probabilities"])], {"number": number}, output)


def with_names(text: str) -> bytes:
    """Return a file that does not run, whose node and tensors are called ``text``."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "odd"], [text], name=text),
        *_uniform(text),
    ]
    return with_probabilities(nodes, UNIFORM | {"odd": np.array([7, 11])})


def with_operator(domain: str, name: str) -> bytes:
    """Return a file that calls an operator which nobody has."""
    return with_probabilities([helper.make_node(name, ["image"], ["probabilities"], domain=domain)], {})


def with_input(name: str, sizes: Sequence[int | str], kind: int = TensorProto.UINT8) -> bytes:
    """Return a file whose input is another than the manifest says."""
    value = helper.make_tensor_value_info(name, kind, sizes)
    nodes = [helper.make_node("Cast", [name], ["pixels"], to=TensorProto.FLOAT), *_uniform("pixels")]
    for node in nodes:
        node.input[:] = [name if each == "image" else each for each in node.input]
    return with_probabilities(nodes, UNIFORM, inputs=[value])


def with_bytes(before: bytes, after: bytes) -> bytes:
    """Return the tiny grey model with a note in its metadata whose bytes are replaced by as many others."""
    data = with_manifest(make_manifest(1).to_json(), note=before.decode())
    return data.replace(before, after)


def foreign(metadata: Mapping[str, str]) -> bytes:
    """Return the graph of the tiny grey model with other metadata."""
    model = make_graph(1)
    helper.set_model_props(model, dict(metadata))
    return model.SerializeToString()


def split(classifier: str | bytes) -> bytes:
    """Return a file of the split form, whose grid is plain, with a classifier graph, or a text in its place."""
    answers: Mapping[str, tuple[int, ...]] = {"theta": (6,), "outline": (1, 32, 2), "grid_0": (3, 4, 2)}
    nodes = [helper.make_node("Shape", ["image"], ["batch"], start=0, end=1)]
    values: dict[str, Any] = {}
    for name, sizes in answers.items():
        values |= {f"{name}_value": np.zeros((1, *sizes), np.float32), f"{name}_sizes": np.array(sizes, np.int64)}
        nodes += [
            helper.make_node("Concat", ["batch", f"{name}_sizes"], [f"{name}_shape"], axis=0),
            helper.make_node("Expand", [f"{name}_value", f"{name}_shape"], [name]),
        ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", *sizes)) for name, sizes in answers.items()]
    manifest = make_manifest(1, export=ExportSpec("split", "cpu", "float32", 18), golden=()).to_json()
    text = classifier if isinstance(classifier, str) else base64.b64encode(classifier).decode("ascii")
    return model_bytes(nodes, values, outputs, {METADATA_KEY: manifest, CLASSIFIER_KEY: text})


def classifier_part(value: onnx.ValueInfoProto, each: float = 1 / 3, depth: int = 0) -> bytes:
    """Return a classifier graph that answers ``each`` three times whatever it gets as ``value``.

    Args:
        value: Its input.
        each: What it takes for a probability.
        depth: Functions that call each other so deeply are called beside.
    """
    model = onnx.load_from_string(nested_functions(depth)) if depth else onnx.ModelProto(ir_version=8)
    calls = [helper.make_node(f"f{depth - 1}", ["answer"], ["unused"], domain="evil")] if depth else []
    constant = numpy_helper.from_array(np.full((1, 3), each, np.float32), "answer")
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ("N", 3))
    node = helper.make_node("Identity", ["answer"], ["probabilities"])
    graph = helper.make_graph([node, *calls], "classifier", [value], [output], [constant])
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("evil", 1)]
    return helper.make_model(
        graph, opset_imports=imports, ir_version=8, functions=list(model.functions)
    ).SerializeToString()
