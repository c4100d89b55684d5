"""How a sampling grid is computed point by point: a few linear maps of theta, or a flow, behind element-wise operators.

A projective grid is a division of two linear maps, a limited one a ``Clip`` or ``Tanh`` of one; guards against a
division by zero add comparisons and ``Where``. Exporters put slices, stacks and transpositions between them. So each
coordinate of the grid is followed backwards through what only moves numbers, until what is left are element-wise
operators on linear maps, both coordinates alike. A grid that depends on no data is a constant.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from .graph_parts import Part, PartError, data_dependence, dominators, nodes_between, open_part, read, run_moved
from .grid_expressions import (
    Array,
    Constant,
    Expression,
    Flowing,
    Linear,
    Numbers,
    PointwiseGrid,
    Step,
    is_written,
    leaves_of,
    steps_of,
    used_tensors,
)
from .sampling_grids import (
    CHOOSING,
    LARGEST_CONSTANT,
    LINEAR_STEPS,
    NO_THETA,
    SHAPING,
    linear_map,
    numbers_each,
    probing_rows,
    theta_size,
    too_large,
)

_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Reciprocal", "Sign", "Pow", "Sqrt", "Max", "Min", "Clip")
_CURVES = ("Tanh", "Sigmoid", "HardSigmoid", "HardSwish", "Softsign", "Erf", "Exp", "Log", "Sin", "Cos", "Atan", "Relu")
_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "IsNaN", "IsInf", "And", "Or", "Not")
_POINTWISE = frozenset({*_ARITHMETIC, *_CURVES, *_COMPARISONS, "Where", "Cast", "Floor", "Ceil", "Round"})
_MOVES = frozenset({*SHAPING, *CHOOSING, "GatherND", "GatherElements"} - {"Where", "Cast", "Pad"})
_STEPS = LINEAR_STEPS | _POINTWISE | _MOVES
_JOINS = {"Concat": None, "ScatterND": (0, 2), "ScatterElements": (0, 2)}
"""Which inputs of an operator that moves numbers hold them, where that is not the first alone; None is all."""
_TRIED_BATCH = 2
LARGEST_BASE = 1 << 22
_PROBED_TO = 1e-5  # relative to the largest coordinate


class _Unfit(Exception):
    """The grid is not of this kind; the message says why."""


def find_pointwise_grid(grid: ir.Value, model: ir.Model) -> PointwiseGrid | str:
    """Return how ``grid`` is computed point by point, or a sentence that says why it cannot be told.

    Args:
        grid: The second input of a ``GridSample``, in float32.
        model: What it belongs to, with shapes inferred.
    """
    tensor = ir.convenience.get_const_tensor(grid)
    if tensor is not None:
        return _folded(np.asarray(tensor.numpy()))
    if not data_dependence(model.graph).get(grid, False):
        return _best([None], grid, model)
    values = [value for value in dominators(grid, model.graph, _STEPS) if numbers_each(value) is not None]
    values.reverse()  # of equals, the farthest
    whole = numbers_each(grid)
    small = [value for value in values if theta_size(value) is not None and numbers_each(value) != whole]
    thetas = _best(small, grid, model)
    if isinstance(thetas, PointwiseGrid):
        return thetas
    flows = _best([value for value in values if numbers_each(value) == whole], grid, model)
    is_better = isinstance(flows, PointwiseGrid) and (thetas == NO_THETA or not flows.is_written)
    return flows if is_better or thetas == NO_THETA else thetas


def _folded(points: Array) -> PointwiseGrid | str:
    """Return a grid that is a constant of the graph already."""
    if points.ndim != 4 or points.shape[3] != 2:
        return f"its grid has shape {points.shape[1:]} instead of (height, width, 2)"
    if not (points == points[:1]).all():
        return "its grid is another constant for each picture of a batch"
    return PointwiseGrid(None, Constant(points[0].reshape(-1, 2).T), points.shape[1:3], (), True)


def _best(sources: Sequence[ir.Value | None], grid: ir.Value, model: ir.Model) -> PointwiseGrid | str:
    """Return the grid from the source from which it is the least to compute, or why it can be told from none."""
    reasons, best = [], None
    for source in sources:
        try:
            found = _follow(source, grid, model)
        except (_Unfit, PartError) as error:
            reasons.append(str(error))
            continue
        if best is None or _effort(found) < _effort(best):
            best = found
    return best or (reasons[0] if reasons else NO_THETA)


def _effort(found: PointwiseGrid) -> tuple[int, bool, int]:
    """Return what orders grids by how much there is to compute."""
    leaves = leaves_of(found.root)
    has_offset = any(isinstance(leaf, Linear) and leaf.offset.any() for leaf in leaves)
    size = 0 if found.source is None else numbers_each(found.source) or 0
    return len(list(steps_of(found.root))), has_offset, size


def _follow(source: ir.Value | None, grid: ir.Value, model: ir.Model) -> PointwiseGrid:
    nodes = nodes_between(source, grid)
    follower = _Follower(source, grid, nodes, model)
    root = follower.root()
    if isinstance(root, Constant) and source is not None:
        raise _Unfit(NO_THETA)
    return PointwiseGrid(source, root, follower.size, tuple(nodes), is_written(root, nodes, grid))


class _Follower:
    """Follows the coordinates of one grid backwards to linear maps of one source."""

    def __init__(self, source: ir.Value | None, grid: ir.Value, nodes: Sequence[ir.Node], model: ir.Model) -> None:
        self.source, self.grid, self.model = source, grid, model
        self.dependent = _dependent(source, nodes)
        self.linear = _linear(source, nodes, self.dependent)
        wanted = {value: None for node in nodes for value in (*read(node), *node.outputs)}
        targets = [value for value in wanted if value is not source and value.producer() is not None]
        targets = [value for value in targets if value.producer() in set(nodes)]
        part = open_part(source, targets, model)
        self.batch = part.batch or _TRIED_BATCH
        size = 0 if source is None else numbers_each(source) or 0
        rows = np.random.default_rng(0).standard_normal((self.batch, size)).astype(np.float32)
        self.arrays: dict[ir.Value, Array] = dict(zip(targets, part.run(rows), strict=True))
        if source is not None:
            self.arrays[source] = rows.reshape(self.batch, *part.sizes)
        points = self.arrays[grid]
        if source is None and points.ndim:
            self.batch = len(points)
        if points.ndim != 4 or points.shape[3] != 2 or (source is not None and len(points) != self.batch):
            raise _Unfit(f"its grid has shape {points.shape[1:]} instead of (height, width, 2)")
        self.size = (points.shape[1], points.shape[2])
        self.count = points.shape[1] * points.shape[2]
        if source is not None and size > 2 * self.count:
            raise _Unfit(NO_THETA)
        self.known: dict[tuple[object, ...], Expression] = {}

    def root(self) -> Expression:
        """Return the coordinates, planar."""
        places = np.arange(self.batch * 2 * self.count).reshape(self.batch, self.count, 2)
        index = np.ascontiguousarray(places.transpose(0, 2, 1)).reshape(self.batch, -1)
        start: ir.Value | Array = self.grid if self.grid in self.dependent else self.arrays[self.grid]
        return self._expression(Numbers((start,), np.zeros_like(index), index))

    def _expression(self, numbers: Numbers) -> Expression:
        """Return how numbers are computed; numbers of one of x and y serve both where they are the same."""
        if numbers.index.shape[1] == 2 * self.count:
            x, y = (
                Numbers(numbers.tensors, numbers.chosen[:, part], numbers.index[:, part])
                for part in (slice(0, self.count), slice(self.count, None))
            )
            numbers = x if x.key == y.key else numbers
        numbers = used_tensors(numbers)
        if numbers.key not in self.known:
            self.known[numbers.key] = self._new_expression(numbers)
        return self.known[numbers.key]

    def _new_expression(self, numbers: Numbers) -> Expression:
        while True:
            values = numbers.values
            if not values:
                return Constant(self._known(numbers).reshape(-1, self.count))
            one = self._of_one_picture(numbers) if all(self.linear[value] for value in values) else None
            if one is not None:
                return self._leaf(one)
            moved = [value for value in values if _kind(value) in _MOVES or _is_float_cast(value)]
            if not moved:
                break
            numbers = used_tensors(self._moved(numbers, moved))
            if numbers.key in self.known:
                return self.known[numbers.key]
        if len(values) < len(numbers.tensors):
            raise _Unfit("its coordinates are computed in different ways")
        return self._step(numbers, [node for value in values if (node := value.producer()) is not None])

    def _known(self, numbers: Numbers) -> Array:
        """Return numbers that do not depend on the source, (M,)."""
        flat = [np.asarray(tensor).ravel() for tensor in numbers.tensors]
        picked = np.empty(numbers.index.shape, flat[0].dtype)
        for position, array in enumerate(flat):
            here = numbers.chosen == position
            picked[here] = array[numbers.index[here]]
        if not (picked == picked[:1]).all():
            raise _Unfit("its grid is another constant for each picture of a batch")
        if picked[0].size > LARGEST_BASE:
            raise _Unfit(too_large("its constant grid", picked[0].size, LARGEST_BASE))
        return np.asarray(picked[0])

    def _step(self, numbers: Numbers, nodes: list[ir.Node]) -> Step:
        first = nodes[0] if nodes else None
        if first is None or first.op_type not in _POINTWISE:
            raise _Unfit("its grid does not depend linearly on theta")
        if len({(node.op_type, len(node.inputs), _described(node)) for node in nodes}) > 1:
            raise _Unfit("its coordinates are computed in different ways")
        if any(self.arrays[node.outputs[0]].size < self.batch * self.count for node in nodes):
            raise _Unfit("its grid does not depend linearly on theta")
        inputs: list[Expression | None] = []
        for slot, entry in enumerate(first.inputs):
            inputs.append(None if entry is None else self._expression(self._read(numbers, nodes, slot)))
        return Step(first.op_type, tuple(first.attributes.values()), tuple(inputs))

    def _read(self, numbers: Numbers, nodes: list[ir.Node], slot: int) -> Numbers:
        """Return the numbers that element-wise operators read in one slot."""
        tensors: list[ir.Value | Array] = []
        index = numbers.index.copy()
        for position, node in enumerate(nodes):
            value, shape = node.inputs[slot], self.arrays[node.outputs[0]].shape
            if value is None:
                raise _Unfit("its coordinates are computed in different ways")
            array = self._array(value)
            here = numbers.chosen == position
            places = np.broadcast_to(np.arange(array.size).reshape(array.shape), shape).ravel()
            index[here] = places[numbers.index[here]]
            tensors.append(value if value in self.dependent else array)
        return Numbers(tuple(tensors), numbers.chosen, index)

    def _moved(self, numbers: Numbers, moved: Sequence[ir.Value]) -> Numbers:
        """Return the same numbers, taken from what the nodes that moved them read."""
        tensors: list[ir.Value | Array] = []
        chosen, index = numbers.chosen.copy(), numbers.index.copy()
        for position, tensor in enumerate(numbers.tensors):
            here = numbers.chosen == position
            if not isinstance(tensor, ir.Value) or all(tensor is not value for value in moved):
                chosen[here] = len(tensors)
                tensors.append(tensor)
                continue
            inputs, which, places = self._origin(tensor)
            chosen[here] = len(tensors) + which[numbers.index[here]]
            index[here] = places[numbers.index[here]]
            tensors += inputs
        return Numbers(tuple(tensors), chosen, index)

    def _origin(self, value: ir.Value) -> tuple[list[ir.Value | Array], NDArray[np.intp], NDArray[np.intp]]:
        """Return what a node that moves numbers reads, and from which of that, and where, each number is."""
        node = value.producer()
        if node is None:
            raise _Unfit(NO_THETA)
        if node.op_type == "Cast":
            [before] = read(node)
            places = np.arange(self._array(before).size)
            return [before], np.zeros_like(places), places
        slots = _JOINS.get(node.op_type, (0,)) or tuple(range(len(node.inputs)))
        fed: dict[str, Array] = {}
        inputs: list[ir.Value | Array] = []
        starts, total = [], 0
        for slot, entry in enumerate(node.inputs):
            if entry is None:
                continue
            array = self._array(entry)
            fed[f"input_{slot}"] = array
            if slot in slots:
                fed[f"input_{slot}"] = np.arange(total, total + array.size).reshape(array.shape)
                starts.append(total)
                inputs.append(entry if entry in self.dependent else array)
                total += array.size
        try:
            places = run_moved(node, fed, node.outputs.index(value), self.model).ravel()
        except PartError as error:
            raise _Unfit(str(error)) from error
        which = np.searchsorted(starts, places, side="right") - 1
        return inputs, which, places - np.array(starts)[which]

    def _array(self, value: ir.Value) -> Array:
        if value in self.arrays:
            return self.arrays[value]
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None:
            raise _Unfit(NO_THETA)
        return np.asarray(tensor.numpy())

    def _leaf(self, numbers: Numbers) -> Linear | Flowing:
        """Return numbers that are linear in the source, measured."""
        if self.source is None:
            raise _Unfit(NO_THETA)
        computed = [value for value in numbers.values if value is not self.source]
        part = open_part(self.source, computed, self.model) if computed else None
        size = numbers_each(self.source) or 0
        if size == 2 * self.count:
            return self._flowing(numbers, part, computed, size)
        rows = probing_rows(size)
        if size * numbers.index.size > LARGEST_CONSTANT:
            raise _Unfit(too_large("the constant of its product", size * numbers.index.size, LARGEST_CONSTANT))
        found = linear_map(_at(numbers, rows, part, computed).astype(np.float32))
        if found is None:
            raise _Unfit("its grid does not depend linearly on theta")
        basis, offset = found
        return Linear(basis.reshape(size, -1, self.count), offset.reshape(-1, self.count))

    def _of_one_picture(self, numbers: Numbers) -> Numbers | None:
        """Return the numbers of the first picture; None where the others' are not taken alike from theirs."""
        for position, tensor in enumerate(numbers.tensors):
            size = self._array(tensor).size if isinstance(tensor, ir.Value) else 0
            here = numbers.chosen[0] == position
            shifts = size // self.batch * np.arange(self.batch)[:, None]
            if size % self.batch or not (numbers.index[:, here] == numbers.index[:1, here] + shifts).all():
                return None
        if not (numbers.chosen == numbers.chosen[:1]).all():
            return None
        return Numbers(numbers.tensors, numbers.chosen[0], numbers.index[0])

    def _flowing(self, numbers: Numbers, part: Part | None, computed: Sequence[ir.Value], size: int) -> Flowing:
        """Return numbers that are a scaled and moved flow, each of its own place."""
        sizes = list(self.source.shape or ())[1:] if self.source is not None else []
        is_planar = sizes == [2, *self.size]
        if not is_planar and sizes != [*self.size, 2]:
            raise _Unfit(NO_THETA)
        random = np.random.default_rng(1).uniform(0.5, 1.5, (2, size)).astype(np.float32)
        rows = np.concatenate([np.zeros((1, size), np.float32), np.ones((1, size), np.float32), random])
        offset, ones, *others = _at(numbers, rows, part, computed).astype(np.float32)
        scale = ones - offset
        if len(offset) != 2 * self.count:
            raise _Unfit(NO_THETA)
        for is_turned in (False, True):
            planes = random.reshape(2, 2, -1) if is_planar else random.reshape(2, -1, 2).transpose(0, 2, 1)
            expected = (planes[:, ::-1] if is_turned else planes).reshape(2, -1) * scale + offset
            apart = np.abs(expected - np.stack(others)).max()
            if apart <= _PROBED_TO * max(1.0, np.abs(expected).max()):
                shape = (2, self.count)
                return Flowing(_rounded(scale).reshape(shape), offset.reshape(shape), is_planar, is_turned)
        raise _Unfit("its grid does not depend point by point on a flow")


def _halves(half: int) -> tuple[slice, slice]:
    return slice(0, half), slice(half, None)


def _at(
    numbers: Numbers, rows: NDArray[np.float32], part: Part | None, computed: Sequence[ir.Value]
) -> NDArray[np.generic]:
    """Return the numbers for each of some sources, (rows, M)."""
    arrays = dict(zip(map(id, computed), part.run_in_batches(rows), strict=True)) if part is not None else {}
    picked = np.empty((len(rows), numbers.index.size), np.float64)
    for position, tensor in enumerate(numbers.tensors):
        here = numbers.chosen == position
        if not isinstance(tensor, ir.Value):
            picked[:, here] = np.asarray(tensor).ravel()[numbers.index[here]]
        else:
            picked[:, here] = arrays.get(id(tensor), rows)[:, numbers.index[here]]
    return picked


def _rounded(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a scale as one number where rounding alone made it differ from point to point."""
    for values in (scale.reshape(1, -1), scale.reshape(2, -1)):
        middle = np.median(values, axis=1, keepdims=True)
        if np.abs(values - middle).max() <= 4 * np.finfo(np.float32).eps * max(1.0, float(np.abs(middle).max())):
            values[:] = np.where(np.abs(middle - 1) <= 4 * np.finfo(np.float32).eps, 1, middle)
            break
    return scale


def _dependent(source: ir.Value | None, nodes: Sequence[ir.Node]) -> set[ir.Value]:
    """Return the tensors that depend on the data of ``source``."""
    dependent = {source} if source is not None else set()
    for node in nodes:
        if node.op_type not in ("Shape", "Size") and any(value in dependent for value in read(node)):
            dependent.update(node.outputs)
    return dependent


def _linear(source: ir.Value | None, nodes: Sequence[ir.Node], dependent: set[ir.Value]) -> dict[ir.Value, bool]:
    """Return of each tensor that depends on ``source`` whether its operators let it be linear in it."""
    linear = {source: True} if source is not None else {}
    for node in nodes:
        reads = [value in dependent for value in node.inputs]
        if not any(reads):
            continue
        one_factor = node.op_type not in ("Mul", "MatMul", "Einsum") or sum(reads) == 1
        in_place = node.op_type not in ("Div", "Where") or not reads[1 if node.op_type == "Div" else 0]
        known = node.op_type in LINEAR_STEPS and one_factor and in_place and _is_of_floats(node)
        is_linear = known and all(linear.get(value, True) for value in read(node) if value in dependent)
        linear.update(dict.fromkeys(node.outputs, is_linear))
    return linear


def _is_of_floats(node: ir.Node) -> bool:
    kind = node.attributes.get("to")
    return node.op_type != "Cast" or kind is None or kind.as_int() in _FLOATS


_FLOATS = {int(kind) for kind in (ir.DataType.FLOAT, ir.DataType.DOUBLE)}


def _is_float_cast(value: ir.Value) -> bool:
    node = value.producer()
    if node is None or node.op_type != "Cast" or not _is_of_floats(node):
        return False
    before = node.inputs[0]
    return before is not None and before.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE)


def _kind(value: ir.Value) -> str:
    node = value.producer()
    return "" if node is None else node.op_type


def _described(node: ir.Node) -> str:
    return str(sorted((name, str(attribute.value)) for name, attribute in node.attributes.items()))
