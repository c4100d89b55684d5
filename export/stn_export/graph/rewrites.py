"""Graph rewrites on onnxscript's rewriter: constants folded, layers merged, shapes inferred, and what rules share."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import RewriteRule, RewriteRuleClassBase, RewriteRuleSet
from onnxscript.rewriter.pattern import MatchResult, Var

_FOLDING_LIMIT = 1 << 20  # numbers in a constant that is computed ahead


class Operators(Protocol):
    """Adds operators to a graph: ``op.Add(a, b)``."""

    def __getattr__(self, kind: str) -> Callable[..., ir.Value]:
        """Return what adds an operator of a kind."""


class Patterns(Protocol):
    """Describes operators to look for: ``op.Add(a, b)``."""

    def __getattr__(self, kind: str) -> Callable[..., Var]:
        """Return what describes an operator of a kind."""


@dataclass
class Changes:
    """What rewriting did to a graph, in sentences.

    Attributes:
        made: What was changed.
        kept: Samplers that could not be improved, and why.
    """

    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def keep(self, sentence: str) -> None:
        """Note what is not changed, once."""
        if sentence not in self.kept:
            self.kept.append(sentence)


class Rule(RewriteRuleClassBase):
    """A rewrite that keeps the nodes it matched, since others may read them; unused ones are removed afterwards."""

    def __init__(self, name: str) -> None:
        super().__init__(name, remove_nodes=False)

    def bound(self) -> RewriteRule:
        """Return the rule for the rewriter."""
        return RewriteRule(self.pattern, self.rewrite, self.check, name=self.name, remove_nodes=self.remove_nodes)


def fold_constants(model: ir.Model) -> None:
    """Compute what does not depend on the inputs; in place."""
    fold_constants_ir(model, input_size_limit=_FOLDING_LIMIT, output_size_limit=_FOLDING_LIMIT)
    _tidy(model)


def merge_layers(model: ir.Model) -> None:
    """Fold scale and shift in front of a convolution into its weights, and put Relu before MaxPool; in place.

    Zeros that a convolution pads with would need the shift too, so a padded one takes the scale alone. Relu and
    MaxPool commute exactly, and onnxruntime computes a Relu behind a convolution together with it.
    """
    infer_shapes(model)
    while apply_rules(model, *(_IntoConv(kind) for kind in ("Mul", "Div", "Add", "Sub"))):
        pass
    apply_rules(model, _ReluBeforePool())


def infer_shapes(model: ir.Model) -> None:
    """Write the shapes that follow from the inputs' into the graph."""
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it cannot infer is not the user's to mend
    try:
        ir.passes.common.ShapeInferencePass()(model)
    finally:
        logger.setLevel(level)


def apply_rules(model: ir.Model, *rules: Rule) -> int:
    """Apply rules to a graph, in place, and tidy it; return how often they matched."""
    count = RewriteRuleSet([rule.bound() for rule in rules]).apply_to_model(model)
    if count:
        _tidy(model)
        infer_shapes(model)
    return count


def _tidy(model: ir.Model) -> None:
    for step in (
        ir.passes.common.RemoveUnusedNodesPass(),
        ir.passes.common.NameFixPass(),
        ir.passes.common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        ir.passes.common.DeduplicateInitializersPass(),
        ir.passes.common.CommonSubexpressionEliminationPass(),
    ):
        step(model)


class _IntoConv(Rule):
    """Folds ``Conv(x kind operand)`` into the weights, for an operand that is one number a channel, or one."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"{kind} into Conv")
        self.kind = kind

    def pattern(self, op: Patterns, x: Var, operand: Var, weight: Var) -> Var:
        inner = getattr(op, self.kind)(x, operand, _outputs=["inner"])
        return op.Conv(inner, weight, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["convolved"])

    def check(
        self,
        context: object,
        x: ir.Value,
        operand: ir.Value,
        weight: ir.Value,
        inner: ir.Value,
        convolved: ir.Value,
    ) -> MatchResult:
        node, values, kernel = convolved.producer(), _array(operand), _array(weight)
        if node is None or values is None or kernel is None or any(_array(value) is None for value in node.inputs[2:]):
            return match_result(False, "not constant")
        if kernel.dtype != np.float32 or kernel.ndim != 4:
            return match_result(False, "of another precision, or not of images")
        channels = kernel.shape[1]
        if x.shape is None or len(x.shape) != kernel.ndim or x.shape[1] != channels:
            return match_result(False, "the operand makes more channels of it")
        if values.size != 1 and (values.ndim < 3 or values.shape[-3:] != (channels, 1, 1) or values.size != channels):
            return match_result(False, "not one number a channel")
        if whole_attribute(convolved, "group", 1) != 1 or len(inner.uses()) != 1 or inner.is_graph_output():
            return match_result(False, "grouped, or its input is used elsewhere")
        padded = any(_wholes(convolved, "pads")) or text_attribute(convolved, "auto_pad", "NOTSET").startswith("SAME")
        return match_result(self.kind in ("Mul", "Div") or not padded, "the padding would need the shift too")

    def rewrite(
        self,
        op: Operators,
        x: ir.Value,
        operand: ir.Value,
        weight: ir.Value,
        inner: ir.Value,
        convolved: ir.Value,
    ) -> ir.Value:
        node = maker_of(convolved)
        kernel, values = _known(weight), _known(operand).reshape(1, -1, 1, 1)
        bias = _known(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(len(kernel))
        if self.kind in ("Mul", "Div"):
            kernel = kernel * values if self.kind == "Mul" else kernel / values
        else:
            bias = bias + (1 if self.kind == "Add" else -1) * (kernel * values).sum(axis=(1, 2, 3))
        name = node_name(convolved)
        return op.Conv(
            x,
            constant(op, kernel.astype(np.float32), f"{name}.weight_{self.kind}"),
            constant(op, bias.astype(np.float32), f"{name}.bias_{self.kind}"),
            **node.attributes,
        )


class _ReluBeforePool(Rule):
    """Makes ``Relu(MaxPool(x))`` the equal ``MaxPool(Relu(x))``."""

    def __init__(self) -> None:
        super().__init__("Relu before MaxPool")

    def pattern(self, op: Patterns, x: Var) -> Var:
        return op.Relu(op.MaxPool(x, _allow_other_attributes=True, _outputs=["pooled"]))

    def check(self, context: object, x: ir.Value, pooled: ir.Value) -> MatchResult:
        before, pool = x.producer(), pooled.producer()
        alone = len(pooled.uses()) == 1 and not pooled.is_graph_output() and len(x.uses()) == 1
        behind_conv = before is not None and before.op_type == "Conv"
        return match_result(
            alone and behind_conv and pool is not None and len(pool.outputs) == 1, "not behind a Conv alone"
        )

    def rewrite(self, op: Operators, x: ir.Value, pooled: ir.Value) -> ir.Value:
        return op.MaxPool(op.Relu(x), **maker_of(pooled).attributes)


def constant(op: Operators, values: NDArray[np.generic], name: str) -> ir.Value:
    """Return a constant of the graph; its name is made unique afterwards."""
    value = op.Constant(value=ir.tensor(values))
    value.name = name
    return value


def _array(value: ir.Value | None) -> NDArray[np.generic] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _known(value: ir.Value | None) -> NDArray[np.float64]:
    """Return a constant, of which the rule's check knows that it is one."""
    values = _array(value)
    if values is None:
        raise ValueError(f"{value} is not constant")
    return values.astype(np.float64)


def maker_of(value: ir.Value) -> ir.Node:
    """Return the node that makes a tensor, of which the rule's pattern knows that there is one."""
    node = value.producer()
    if node is None:
        raise ValueError(f"{value} is not computed")
    return node


def image_size(image: ir.Value) -> tuple[int, int] | None:
    """Return the (height, width) of an image (N, C, H, W); None where they are open."""
    return _whole_sizes(image, slice(2, 4))


def grid_size(grid: ir.Value) -> tuple[int, int] | None:
    """Return the (height, width) of a sampling grid (N, H, W, 2); None where they are open."""
    return _whole_sizes(grid, slice(1, 3))


def _whole_sizes(value: ir.Value, axes: slice) -> tuple[int, int] | None:
    """Return two sizes of a 4-D tensor, when both are known."""
    sizes = list(value.shape or ())
    first, second = sizes[axes] if len(sizes) == 4 else (None, None)
    return (first, second) if isinstance(first, int) and isinstance(second, int) else None


def node_name(value: ir.Value) -> str:
    """Return the name of the node that makes a tensor, or the tensor's own."""
    node = value.producer()
    return str((node.name if node is not None else None) or value.name)


def text_attribute(value: ir.Value, attribute: str, default: str) -> str:
    """Return a string attribute of the node that makes a tensor."""
    found = _attribute(value, attribute)
    return default if found is None else found.as_string()


def whole_attribute(value: ir.Value, attribute: str, default: int) -> int:
    """Return a whole-number attribute of the node that makes a tensor."""
    found = _attribute(value, attribute)
    return default if found is None else found.as_int()


def _wholes(value: ir.Value, attribute: str) -> tuple[int, ...]:
    found = _attribute(value, attribute)
    return () if found is None else tuple(found.as_ints())


def _attribute(value: ir.Value, name: str) -> ir.Attr | None:
    """Return an attribute of the node that made ``value``."""
    node = value.producer()
    return None if node is None else node.attributes.get(name)


def match_result(matches: bool, reason: str) -> MatchResult:
    """Return a rule's verdict on a match, with the reason of a refusal."""
    result = MatchResult()
    return result if matches else result.fail(reason)
