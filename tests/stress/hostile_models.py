"""Hostile model files by name: those that are refused, those that do no harm, and those that would never end.

Each is a file that onnxruntime may load; what is hostile is the manifest, the shapes and values of the outputs, the
text, or the work that it asks for.
"""

import base64
import zlib
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.stress.hostile_parts import (
    ESCAPES,
    MEGABYTE,
    answering,
    changed,
    classifier_part,
    doubling,
    external,
    filled,
    foreign,
    large_product,
    long_loop,
    nested_functions,
    of_other_kind,
    promised,
    split,
    with_bytes,
    with_input,
    with_manifest,
    with_names,
    with_operator,
    with_probabilities,
    written,
)
from tests.support.tiny_model import HEIGHT, WIDTH


def _zeros(count: int) -> str:
    """Return so many zeros as a golden vector stores them: a thousandth of their size."""
    packing = zlib.compressobj(9)
    chunk = bytes(1 << 24)
    data = b"".join(packing.compress(chunk) for _ in range(count // len(chunk)))
    return base64.b64encode(data + packing.flush()).decode("ascii")


def _nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


def _warped(kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("warped_0", kind, ("N", 1, 3, 4))


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
    "no manifest": (lambda: foreign({}), r"no 'stn_edge' metadata \(found: none\)"),
    "foreign keys control the terminal": (
        lambda: foreign({ESCAPES: "1", MEGABYTE: "2"}),
        r"no 'stn_edge' metadata \(found: \\x1b",
    ),
    "ten thousand foreign keys": (
        lambda: foreign({f"key {number}": "" for number in range(10_000)}),
        r"no 'stn_edge' metadata \(found: key 0, ",
    ),
    "metadata is not UTF-8": (partial(with_bytes, b"12345678", b"1234\xff\xfe78"), "metadata is not text"),
    # --- text that is no text
    "an output is not UTF-8": (
        lambda: answering().replace(b"rectified", b"rectifi\xff\xfe"),
        "is not text|cannot load",
    ),
    "the input is not UTF-8": (lambda: answering().replace(b"image", b"im\xffge"), "is not text|cannot load"),
    "a size is not UTF-8": (
        lambda: with_input("image", ("N", "hhhhhh", 8, 1)).replace(b"hhhhhh", b"hh\xff\xffhh"),
        "a name in its graph is not text",
    ),
    "an operator is not UTF-8": (
        lambda: with_operator("evil", "Wiiipe").replace(b"Wiiipe", b"Wi\xff\xffpe"),
        "onnxruntime cannot load it",
    ),
    # --- the classifier graph of the split form
    "a classifier that is no base64": (partial(split, "!!!!" + ESCAPES), "its classifier graph is damaged"),
    "a classifier that is no graph": (partial(split, b"\xff" * 100), "its classifier graph: onnxruntime cannot load"),
    "a classifier of nothing": (partial(split, ""), "its classifier graph: onnxruntime cannot load"),
    **{
        f"a classifier of {what}": (
            lambda value=value: split(classifier_part(value)),
            "its classifier graph takes|its classifier graph: onnxruntime cannot load",
        )
        for what, value in (
            ("one number", helper.make_tensor_value_info("warped_0", TensorProto.FLOAT, ())),
            ("any shape", helper.make_tensor_value_info("warped_0", TensorProto.FLOAT, None)),
            ("a sequence", helper.make_tensor_sequence_value_info("warped_0", TensorProto.FLOAT, None)),
            ("other names", helper.make_tensor_value_info(ESCAPES, TensorProto.FLOAT, ("N", 1, 3, MEGABYTE))),
            ("other sizes", helper.make_tensor_value_info("warped_0", TensorProto.FLOAT, ("N", 1, 3, 5))),
        )
    },
    "a classifier of bytes": (lambda: split(classifier_part(_warped(TensorProto.UINT8))), "onnxruntime cannot run it"),
    "a classifier of NaN": (lambda: split(classifier_part(_warped(), np.nan)), "'probabilities' holds NaN"),
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
    "golden vectors control the terminal": partial(changed, "golden.0.outputs", {ESCAPES: "x", MEGABYTE: "y"}),
    "a golden vector is no base64": partial(changed, "golden.0.image", ESCAPES),
    "a golden vector is empty": partial(changed, "golden.0.image", ""),
    "a golden vector of gigabytes": lambda: changed("golden.0.image", _zeros(1 << 28)),
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
    "a classifier of functions that call each other": lambda: split(classifier_part(_warped(), depth=40)),
    "an answer of 5 gigabytes": partial(filled, 1_250_000_000),
}
"""Files that would keep a run busy for ever, or take all memory."""
