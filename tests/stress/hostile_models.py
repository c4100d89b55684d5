"""Model files as somebody would write them who means harm, made here with onnx alone.

Each is a file that onnxruntime may load; what is hostile is the manifest, the shapes and values of the outputs, the
text, or the work that it asks for.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stn_runtime.model.manifest import METADATA_KEY
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


def _raw_metadata(before: bytes, after: bytes) -> bytes:
    """Return the tiny grey model with a note in its metadata, whose bytes are replaced by as many others."""
    data = with_manifest(make_manifest(1).to_json(), note=before.decode())
    return data.replace(before, after)


def _nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


_NAN = np.full(3, np.nan, np.float32)

Builder = Callable[[], bytes]

REFUSED: Mapping[str, tuple[Builder, str]] = {
    # --- the manifest
    "manifest is empty": (partial(with_manifest, ""), "the manifest is not JSON"),
    "manifest is a list": (partial(with_manifest, "[]"), "the manifest is not a JSON object"),
    "manifest is a number": (partial(with_manifest, "1" * 5000), "the manifest is not JSON"),
    "manifest is cut": (partial(with_manifest, '{"name": "x'), "the manifest is not JSON"),
    "deep lists": (partial(with_manifest, _nested(100_000)), "the manifest is not JSON"),
    "deep objects": (partial(with_manifest, _nested(100_000, '{"a":') + "1"), "the manifest is not JSON"),
    "deep data": (partial(written, '"name": "by hand"', f'"name": {_nested(50_000)}'), "the manifest is not JSON"),
    "NaN": (partial(written, '"accuracy": 97.5', '"accuracy": NaN'), "manifest.metrics.accuracy is"),
    "minus infinity": (partial(written, '"accuracy": 97.5', '"accuracy": -Infinity'), "manifest.metrics.accuracy is"),
    "a number beyond floats": (
        partial(written, '"accuracy": 97.5', '"accuracy": 1e999'),
        "manifest.metrics.accuracy is",
    ),
    "parity is NaN": (
        partial(written, '"probabilities": 1e-07', '"probabilities": NaN'),
        "parity.probabilities is nan",
    ),
    "a key twice": (partial(written, '"license"', '"labels": ["x"], "license"'), "the manifest is not JSON"),
    "a number of 4000 digits": (partial(changed, "metrics.accuracy", 10**4000), "manifest.metrics.accuracy must be"),
    "schema of the future": (partial(changed, "schema", 10**4000), "the manifest has schema 1000"),
    "schema below one": (partial(changed, "schema", -1), "manifest.schema is -1"),
    "schema is true": (partial(changed, "schema", True), "manifest.schema must be a whole number"),
    "name is a list": (partial(changed, "name", ["tiny"]), "manifest.name must be a text"),
    "name is null": (partial(changed, "name", None), "manifest.name must be a text"),
    "name of a megabyte": (partial(changed, "name", MEGABYTE), "manifest.name has 1000000 characters"),
    "name is no text": (partial(changed, "name", "\ud800"), "manifest.name holds"),
    "no labels": (partial(changed, "labels", []), "manifest.labels is empty"),
    "labels is a text": (partial(changed, "labels", "abc"), "manifest.labels must be a list"),
    "labels is an object": (partial(changed, "labels", {"0": "a"}), "manifest.labels must be a list"),
    "a label is a number": (partial(changed, "labels.1", 7), r"manifest.labels\[1\] must be a text"),
    "a label is no text": (partial(changed, "labels.1", "a\ud800"), r"manifest.labels\[1\] holds"),
    "a label of a megabyte": (partial(changed, "labels.0", MEGABYTE), r"manifest.labels\[0\] has 1000000"),
    "a label too many": (partial(changed, "labels", ["a", "b", "c", "d"]), "expected N x 4 labels"),
    "a label too few": (partial(changed, "labels", ["a", "b"]), "expected N x 2 labels"),
    "input of no pixels": (partial(changed, "preprocess.height", 0), "manifest.preprocess asks for 0 x 8"),
    "input of minus pixels": (partial(changed, "preprocess.width", -8), "manifest.preprocess asks for 6 x -8"),
    "input of gigapixels": (partial(changed, "preprocess.height", 10**9), "manifest.preprocess asks for 1000000000"),
    "input of two channels": (partial(changed, "preprocess.channels", 2), "manifest.preprocess asks for"),
    "input of other sizes": (partial(changed, "preprocess.height", 7), "the manifest says"),
    "unknown fit": (partial(changed, "preprocess.fit", ESCAPES), "manifest.preprocess.fit must be one of"),
    "no transformers field": (partial(changed, "transformers", None), "manifest.transformers must be a list"),
    "theta begins late": (partial(changed, "transformers.0.theta", [1, 7]), "expected to start at 0"),
    "theta without end": (partial(changed, "transformers.0.theta", [0, 10**9]), "transformers need N x 1000000000"),
    "theta backwards": (partial(changed, "transformers.0.theta", [0, -6]), r"transformers\[0\]\.theta is 0:-6"),
    "theta of three": (partial(changed, "transformers.0.theta", [0, 3, 6]), "must have 2 entries"),
    "output of no pixels": (partial(changed, "transformers.0.output_size", [0, 4]), r"transformers\[0\] makes"),
    "outputs of other names": (partial(changed, "outputs", ["probabilities", ESCAPES]), "the manifest says"),
    "outputs without probabilities": (partial(changed, "outputs", ["theta"]), "lacks 'probabilities'"),
    "split without a classifier": (partial(changed, "export.form", "split"), "is of the split form, but its outputs"),
    "opset of 4000 digits": (partial(changed, "export.opset", 10**4000), "manifest.export.opset is 1000"),
    "output of a kilometre": (partial(changed, "transformers.0.output_size", [10**9, 4]), r"transformers\[0\] makes"),
    "transformer of a megabyte": (partial(changed, "transformers.0.name", MEGABYTE), r"\[0\].name has 1000000"),
    "grid of a megabyte": (partial(changed, "transformers.0.grid", MEGABYTE), r"\[0\].grid has 1000000 characters"),
    "unknown form": (partial(changed, "export.form", "melted"), "manifest.export.form must be one of"),
    "a key that controls the terminal": (
        partial(changed, "metrics", {ESCAPES: "x"}),
        r"manifest\.metrics\.\\x1b\[2J",
    ),
    "a key of a megabyte": (partial(changed, "metrics", {MEGABYTE: "x"}), r"manifest\.metrics\.xxx"),
    "statistics of other sizes": (
        partial(changed, "theta", {"mean": [0.0], "whitening": [[1.0]], "limit": 1.0, "pictures": 9}),
        "has 1 parameters, the transformers have 6",
    ),
    # --- other metadata
    "no manifest": (lambda: _foreign({}), r"no 'stn_edge' metadata \(found: none\)"),
    "foreign keys control the terminal": (
        lambda: _foreign({ESCAPES: "1", MEGABYTE: "2"}),
        r"no 'stn_edge' metadata \(found: \\x1b",
    ),
    "ten thousand foreign keys": (
        lambda: _foreign({f"key {number}": "" for number in range(10_000)}),
        r"no 'stn_edge' metadata \(found: key 0, ",
    ),
    "metadata is not UTF-8": (partial(_raw_metadata, b"12345678", b"1234\xff\xfe78"), "metadata is not text"),
    # --- shapes of outputs, declared or found out by running
    **{
        f"{what} {how}": (partial(answering, hides=hides, **arrays), sentence)
        for how, hides in (("declared", False), ("hidden", True))
        for what, arrays, sentence in (
            ("outline of three coordinates", {"outline": np.zeros((1, 32, 3), np.float32)}, "output 'outline' is"),
            ("outline of no points", {"outline": np.zeros((1, 0, 2), np.float32)}, "output 'outline' is"),
            ("outline of three points", {"outline": np.zeros((1, 3, 2), np.float32)}, "output 'outline' is"),
            ("outlines of two transformers", {"outline": np.zeros((2, 32, 2), np.float32)}, "output 'outline' is"),
            ("outline without a transformer", {"outline": np.zeros((32, 2), np.float32)}, "output 'outline' is"),
            ("rectified of no pixels", {"rectified": np.zeros((0, 0, 1), np.uint8)}, "output 'rectified' is"),
            ("rectified of two channels", {"rectified": np.zeros((3, 4, 2), np.uint8)}, "output 'rectified' is"),
            ("rectified of four channels", {"rectified": np.zeros((3, 4, 4), np.uint8)}, "output 'rectified' is"),
            ("rectified of a line", {"rectified": np.zeros((1, 100_000, 1), np.uint8)}, "output 'rectified' is"),
            ("rectified without channels", {"rectified": np.zeros((3, 4), np.uint8)}, "output 'rectified' is"),
            ("theta of four", {"theta": np.zeros(4, np.float32)}, "output 'theta' is"),
            ("theta as a matrix", {"theta": np.zeros((2, 3), np.float32)}, "output 'theta' is"),
            ("probabilities of four", {"probabilities": np.full(4, 0.25, np.float32)}, "output 'probabilities' is"),
            ("probabilities as a square", {"probabilities": np.zeros((3, 3), np.float32)}, "output 'probabilities' is"),
            ("no probabilities", {"probabilities": np.zeros(0, np.float32)}, "output 'probabilities' is"),
        )
    },
    "rectified of floats": (partial(answering, rectified=np.zeros((3, 4, 1), np.float32)), "output 'rectified' is"),
    "probabilities of whole numbers": (partial(answering, probabilities=np.array([1, 0, 0])), "'probabilities' is"),
    "theta of truth values": (partial(answering, theta=np.ones(6, bool)), "output 'theta' is"),
    "a batch of one for any": (
        partial(
            with_probabilities,
            [helper.make_node("Identity", ["ready"], ["probabilities"])],
            {"ready": np.full((5, 3), 1 / 3, np.float32)},
        ),
        "output 'probabilities' is|onnxruntime cannot load it",
    ),
    "probabilities are a sequence": (partial(of_other_kind, "sequence"), "output 'probabilities' is"),
    "probabilities are words": (partial(of_other_kind, "text"), "output 'probabilities' is"),
    "probabilities are optional": (partial(of_other_kind, "optional"), "'probabilities' is|cannot load it"),
    # --- values of outputs
    "probabilities are NaN": (partial(answering, probabilities=_NAN), "'probabilities' holds NaN"),
    "a probability is infinite": (
        partial(answering, probabilities=np.array([np.inf, 0, 0], np.float32)),
        "'probabilities' holds NaN",
    ),
    "a probability of two": (partial(answering, probabilities=np.array([2, -1, 0], np.float32)), "from -1 to 2"),
    "a probability below zero": (partial(answering, probabilities=np.array([0.6, 0.6, -0.2], np.float32)), "from -0.2"),
    "probabilities add up to three": (partial(answering, probabilities=np.ones(3, np.float32)), "add up to 3"),
    "probabilities add up to nothing": (partial(answering, probabilities=np.zeros(3, np.float32)), "add up to 0"),
    "theta is NaN": (partial(answering, theta=np.full(6, np.nan, np.float32)), "'theta' holds NaN"),
    "theta is infinite": (partial(answering, theta=np.full(6, -np.inf, np.float32)), "'theta' holds NaN"),
    # --- the graph
    "an operator that nobody has": (partial(with_operator, "evil", "Wipe"), "onnxruntime cannot load it"),
    "an operator that controls the terminal": (partial(with_operator, ESCAPES, ESCAPES), "onnxruntime cannot load it"),
    "an operator of a megabyte": (partial(with_operator, MEGABYTE, MEGABYTE), "onnxruntime cannot load it"),
    "names control the terminal": (partial(with_names, ESCAPES), "onnxruntime cannot (load|run) it"),
    "names of a megabyte": (partial(with_names, MEGABYTE), "onnxruntime cannot (load|run) it"),
    "input of another name": (partial(with_input, ESCAPES, ("N", HEIGHT, WIDTH, 1)), "inputs are"),
    "input of floats": (partial(with_input, "image", ("N", HEIGHT, WIDTH, 1), TensorProto.FLOAT), "input 'image' is"),
    "input of open sizes": (partial(with_input, "image", ("N", ESCAPES, MEGABYTE, 1)), "input 'image' is"),
    "input of seven pictures": (partial(with_input, "image", (7, HEIGHT, WIDTH, 1)), "takes 7 pictures"),
    "input without sizes": (partial(with_input, "image", ()), "input 'image' is|cannot load it"),
    "weights outside of the folder": (partial(external, "../../secret"), "onnxruntime cannot load it"),
    "weights in the system": (partial(external, "/etc/passwd"), "onnxruntime cannot load it"),
    "weights that are not there": (partial(external, ESCAPES), "onnxruntime cannot load it"),
    "constants of a petabyte": (partial(promised, 1 << 48), "onnxruntime cannot load it"),
    "constants of minus one": (partial(promised, -1), "onnxruntime cannot load it"),
    "an answer of a terabyte": (partial(filled, 1 << 38), "onnxruntime cannot run it|took more than"),
}
"""Files by what is hostile in them, with a pattern that the sentence of ``stn run`` must hold."""


def _foreign(metadata: Mapping[str, str]) -> bytes:
    model = make_graph(1)
    helper.set_model_props(model, dict(metadata))
    return model.SerializeToString()


TAKEN: Mapping[str, Builder] = {
    "sound": partial(answering),
    "name controls the terminal": partial(changed, "name", ESCAPES),
    "labels control the terminal": partial(changed, "labels", [ESCAPES, "a\0b" + ESCAPES, "\x1b[31m"]),
    "licence controls the terminal": partial(changed, "license", ESCAPES),
    "licence of a megabyte": partial(changed, "license", MEGABYTE),
    "metrics control the terminal": partial(changed, "metrics", {ESCAPES: 1.0, MEGABYTE: 1e300}),
    "parity controls the terminal": partial(changed, "parity", {ESCAPES: 1.0}),
    "a million metrics": partial(changed, "metrics", {f"{number}": 1.0 for number in range(100_000)}),
    "gate controls the terminal": partial(
        changed, "verification", {"gate": {ESCAPES: ESCAPES, "deep": [[MEGABYTE]], MEGABYTE: None}}
    ),
    "target controls the terminal": partial(changed, "export.target", ESCAPES),
    "transformer controls the terminal": partial(changed, "transformers.0.name", ESCAPES),
    "grid controls the terminal": partial(changed, "transformers.0.grid", ESCAPES),
    "labels are turned around": partial(changed, "labels", ["\u202eabc", "\u2066d", "\u200be"]),
    "labels are markup": partial(changed, "labels", ["<script>alert(1)</script>", "=cmd|' /C calc'!A1", "../../up"]),
    "labels are alike": partial(changed, "labels", ["same", "same", "same"]),
    "outline is infinite": partial(answering, outline=np.full((1, 32, 2), np.inf, np.float32)),
}
"""Files that may be run, since what is odd in them does no harm; what they say is escaped and cut."""

ENDLESS: Mapping[str, Builder] = {
    "a loop of 10^9": long_loop,
    "a loop of 10^9 over constants": partial(long_loop, in_constants=True),
    "a tensor that doubles 40 times": partial(doubling, 40, in_constants=False),
    "constants that double 40 times": partial(doubling, 40, in_constants=True),
    "functions that call each other 2^40 times": partial(nested_functions, 40),
    "a product of 20000 rows": partial(large_product, 20_000),
    "an answer of 5 gigabytes": partial(filled, 1_250_000_000),
}
"""Files that would keep a run busy for ever, or take all memory."""
