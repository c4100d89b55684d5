"""What a sampling grid is computed as, point by point: element-wise operators on linear maps of theta, or on a flow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Constant:
    """Numbers that depend on no data.

    Attributes:
        values: (2, points) or, where x and y have the same, (1, points).
    """

    values: Array


@dataclass(frozen=True)
class Linear:
    """A linear map of theta.

    Attributes:
        basis: (P, 2, points), or (P, 1, points) where x and y have the same, float32.
        offset: The same without the first axis; all zero where there is none.
    """

    basis: NDArray[np.float32]
    offset: NDArray[np.float32]


@dataclass(frozen=True)
class Flowing:
    """A flow of the grid's size, scaled and moved: ``flow * scale + offset``.

    Attributes:
        scale: (2, points) float32.
        offset: (2, points) float32.
        is_planar: Whether the flow is (N, 2, height, width); otherwise (N, height, width, 2).
        is_turned: Whether its first channel is y.
    """

    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    is_planar: bool
    is_turned: bool


@dataclass(frozen=True)
class Step:
    """An element-wise operator.

    Attributes:
        kind: Operator of the standard domain.
        attributes: The node's attributes.
        inputs: What it reads; None where an optional input is left out.
    """

    kind: str
    attributes: tuple[ir.Attr, ...]
    inputs: tuple["Expression | None", ...]


Expression = Constant | Linear | Flowing | Step


@dataclass(frozen=True)
class PointwiseGrid:
    """A grid as element-wise operators on linear maps of theta, or on a flow, or as a constant.

    Attributes:
        source: Theta or the flow; None for a constant.
        root: Gives the coordinates, x first, (2, points).
        size: (height, width) of the grid.
        nodes: The nodes that compute it from the source now.
        is_written: Whether those are what it would be written as.
    """

    source: ir.Value | None
    root: Expression
    size: tuple[int, int]
    nodes: tuple[ir.Node, ...]
    is_written: bool


def steps_of(expression: Expression) -> Iterator[Step]:
    """Yield each different element-wise operator of an expression once, each after those it reads."""
    seen: set[int] = set()

    def walk(part: Expression | None) -> Iterator[Step]:
        if isinstance(part, Step) and id(part) not in seen:
            seen.add(id(part))
            for entry in part.inputs:
                yield from walk(entry)
            yield part

    yield from walk(expression)


def leaves_of(expression: Expression) -> list[Constant | Linear | Flowing]:
    """Return what the operators of an expression work on, each once."""
    parts = [expression] if not isinstance(expression, Step) else []
    parts += [entry for step in steps_of(expression) for entry in step.inputs if not isinstance(entry, Step | None)]
    return list({id(part): part for part in parts}.values())


def is_written(root: Expression, nodes: Sequence[ir.Node], grid: ir.Value) -> bool:
    """Return whether nodes compute a grid in as few steps as its expression has."""
    if isinstance(root, Constant):
        producer = grid.producer()
        return producer is None or (producer.op_type == "Expand" and _is_constant(producer.inputs[0]))
    kinds = [node.op_type for node in nodes]
    products = [node for node in nodes if node.op_type in ("MatMul", "Gemm")]
    moves = [kind for kind in kinds if kind in ("Reshape", "Split", "Transpose", "Gather")]
    steps = [step.kind for step in steps_of(root)]
    for leaf in leaves_of(root):
        if isinstance(leaf, Flowing):
            steps += ["Mul"] * bool((leaf.scale != 1).any()) + ["Add"] * bool(leaf.offset.any())
        elif isinstance(leaf, Linear) and leaf.offset.any():
            steps.append("Add")
    others = len(kinds) - len(products) - len(moves)
    once = all(moves.count(kind) <= 1 for kind in ("Split", "Transpose", "Gather"))
    foreign = set(kinds) - {"MatMul", "Gemm", "Add", "Mul", *moves, *steps}
    second = all(_is_constant(node.inputs[1]) for node in products)
    return once and second and not foreign and len(products) <= 1 and others <= len(steps)


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and ir.convenience.get_const_tensor(value) is not None


@dataclass(frozen=True, eq=False)
class Numbers:
    """The same numbers of each picture of a batch, of tensors that depend on the source or of known ones.

    Attributes:
        tensors: What the numbers are taken from; known ones are arrays.
        chosen: The tensor of each number, (batch, M).
        index: Its place in that tensor, flat, (batch, M).
    """

    tensors: tuple["ir.Value | Array", ...]
    chosen: NDArray[np.intp]
    index: NDArray[np.intp]

    @property
    def key(self) -> tuple[object, ...]:
        """What two choices of the same numbers have in common."""
        names = [id(tensor) if isinstance(tensor, ir.Value) else tensor.tobytes() for tensor in self.tensors]
        return (*names, self.chosen.tobytes(), self.index.tobytes())

    @property
    def values(self) -> list[ir.Value]:
        """The tensors that depend on the source."""
        return [tensor for tensor in self.tensors if isinstance(tensor, ir.Value)]


def used_tensors(numbers: Numbers) -> Numbers:
    """Return numbers without the tensors that none of them is taken from, and each tensor once."""
    order: dict[int, int] = {}
    kept: list[ir.Value | Array] = []
    chosen = numbers.chosen.copy()
    for position in np.unique(numbers.chosen):
        tensor = numbers.tensors[position]
        if id(tensor) not in order:
            order[id(tensor)] = len(kept)
            kept.append(tensor)
        chosen[numbers.chosen == position] = order[id(tensor)]
    return Numbers(tuple(kept), chosen, numbers.index)
