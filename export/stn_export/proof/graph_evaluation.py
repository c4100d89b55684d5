"""An ONNX graph as the original of a proof: its samplers watched, its arithmetic disturbed by rounding."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnxruntime as ort

from stn_runtime.model.session import open_session

from .evaluation import Array, Evaluation, Held, SamplerModes, Sampling
from .graph_cuts import CPU, CutGraph, find_cuts, inlined

_MODES = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}  # their names in opset 20
_COPYING = frozenset(
    ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Concat", "Expand")
)
"""Operators that do no arithmetic."""


class GraphOriginal:
    """A graph that another one is to be proven equal to. Numbers of its operators are those of its cuts.

    Args:
        model: The graph.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model, self._cuts = inlined(model), find_cuts(model)
        constants = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [value.name for value in model.graph.input if value.name not in constants]
        self._outputs = [value.name for value in model.graph.output]
        self._thetas = {index: cut.theta for index, cut in enumerate(self._cuts) if cut.theta is not None}
        made = {name for node in self._model.graph.node for name in node.output}
        sampled = {cut.sampled for cut in self._cuts}
        first = len(self._cuts)
        self._images = {first + index: cut.image for index, cut in enumerate(self._cuts) if cut.image in made - sampled}
        names = [name for cut in self._cuts for name in (cut.image, cut.grid, cut.sampled)]
        self._shown = [*names, *self._thetas.values()]
        self._graph = CutGraph(self._model, [], self._shown)
        self._disturbed: dict[tuple[int, ...] | None, CutGraph] = {}
        self._samplers: dict[tuple[SamplerModes, np.dtype[np.generic]], ort.InferenceSession] = {}

    def evaluate(self, inputs: Sequence[Array]) -> Evaluation:
        """Return one run of the graph."""
        return self._evaluation(self._graph, inputs, None)

    def disturbed(self, inputs: Sequence[Array], seed: int, held: Held | None = None) -> Evaluation:
        """Return a run in which inputs and operators' results are moved by at most one unit in the last place."""
        random = np.random.default_rng(seed)
        moved = [_moved(values, random) for values in inputs]
        key = None if held is None else tuple(held.values)
        if key not in self._disturbed:
            names = {**self._thetas, **self._images}
            fed = (
                [] if held is None else [cut.sampled for cut in self._cuts] + [names[number] for number in held.values]
            )
            self._disturbed[key] = CutGraph(_with_rounding(self._model), fed, self._shown)
        return self._evaluation(self._disturbed[key], moved, held)

    def sample(self, image: Array, grid: Array, modes: SamplerModes) -> Array:
        """Return what ``GridSample`` makes of an image and a grid."""
        key = modes, image.dtype
        if key not in self._samplers:
            self._samplers[key] = open_session(_one_sampler(modes, image.dtype), providers=CPU)
        sampled: Array = self._samplers[key].run(None, {"image": image, "grid": grid})[0]
        return sampled

    def _evaluation(self, graph: CutGraph, inputs: Sequence[Array], held: Held | None) -> Evaluation:
        names = {**self._thetas, **self._images}
        fed = {} if held is None else {names[number]: values for number, values in held.values.items()}
        if held is not None:
            fed |= {cut.sampled: values for cut, values in zip(self._cuts, held.sampled, strict=True)}
        parts = next(graph.run(inputs, fed))
        known = {**dict(zip(self._inputs, inputs, strict=True)), **parts.outputs, **parts.shown}
        images = {name: number for number, name in self._images.items()}
        samplings = tuple(
            Sampling(known[cut.image], known[cut.grid], known[cut.sampled], cut.modes, images.get(cut.image, -1))
            for cut in self._cuts
        )
        outputs = tuple(known[name] for name in self._outputs)
        return Evaluation(outputs, samplings, {number: known[name] for number, name in self._thetas.items()})


def _moved(values: Array, random: np.random.Generator) -> Array:
    if values.dtype.kind != "f":
        return values
    noise = np.finfo(values.dtype).eps * random.uniform(-1, 1, values.shape)
    return np.where(values == np.round(values), values, values * (1 + noise)).astype(values.dtype)


def _with_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph in which each float32 result that is no whole number is moved by at most one unit."""
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    values = [*model.graph.value_info, *model.graph.output]
    floats = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    del moved.graph.node[:]
    for node in model.graph.node:
        copied = moved.graph.node.add()
        copied.CopyFrom(node)
        for index, name in enumerate(node.output if node.op_type not in _COPYING else ()):
            if name in floats:
                copied.output[index] = f"exact: {name}"
                moved.graph.node.extend(_rounding_of(name, len(moved.graph.node)))
    return moved


def _rounding_of(name: str, seed: int) -> Iterator[onnx.NodeProto]:
    exact, unit = f"exact: {name}", float(np.finfo(np.float32).eps)
    noise, product, whole, equal = (f"{kind}: {name}" for kind in ("noise", "product", "whole", "equal"))
    yield onnx.helper.make_node("RandomUniformLike", [exact], [noise], low=1 - unit, high=1 + unit, seed=float(seed))
    yield onnx.helper.make_node("Mul", [exact, noise], [product])
    yield onnx.helper.make_node("Round", [exact], [whole])
    yield onnx.helper.make_node("Equal", [exact, whole], [equal])
    yield onnx.helper.make_node("Where", [equal, exact, product], [name])


def _one_sampler(modes: SamplerModes, kind: np.dtype[np.generic]) -> bytes:
    node = onnx.helper.make_node(
        "GridSample",
        ["image", "grid"],
        ["sampled"],
        mode=_MODES[modes.interpolation],
        padding_mode=modes.padding,
        align_corners=int(modes.align_corners),
    )
    element = onnx.helper.np_dtype_to_tensor_dtype(kind)
    image, grid, sampled = (
        onnx.helper.make_tensor_value_info(name, element, None) for name in ("image", "grid", "sampled")
    )
    graph = onnx.helper.make_graph([node], "sampler", [image, grid], [sampled])
    opset = [onnx.helper.make_opsetid("", 20)]
    data: bytes = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return data
