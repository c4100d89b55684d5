"""PyTorch module to ONNX graph: traced by PyTorch's exporter, then samplers and layers rewritten."""

import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from stn_runtime import InputError

from ..graph.grid_products import rewrite_samplers
from ..graph.onnx_files import dims_of
from ..graph.opsets import OPSET
from ..graph.rewrites import Changes, fold_constants, infer_shapes, merge_layers
from .exportable import TRANSLATIONS, ExportableFunctions
from .linear_systems import expand_linear_systems

_MISSING_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")
"""Finds ``aten.linalg_qr`` in ``No ONNX function found for <OpOverload(op='aten.linalg_qr', overload='default')>``."""

_IMAGE_AXES = {2: "height", 3: "width"}


class TraceError(InputError):
    """PyTorch's exporter cannot turn the module into a graph, or fixed a size that was to stay open."""


def trace(
    module: nn.Module,
    example: Sequence[Tensor],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
) -> onnx.ModelProto:
    """Return a module as an ONNX graph, opset 18, as PyTorch's exporter writes it; ``rewrite`` makes it fast.

    Args:
        module: Any module in evaluation mode whose forward takes tensors.
        example: One batch of the module's inputs.
        input_names: Names for the graph's inputs; by default the names of forward's arguments.
        output_names: Names for the graph's outputs; by default the exporter's.
        dynamic_batch: Whether axis 0 of every input stays open.
        dynamic_size: Whether axes 2 and 3 of every 4-D input stay open.

    Raises:
        TraceError: The module cannot be exported like this.
    """
    kind = type(module).__name__
    examples = _batches(kind, example) if dynamic_batch else tuple(example)
    open_axes = [_open_axes(tensor, dynamic_batch, dynamic_size) for tensor in examples]
    try:
        with _quiet(), torch.no_grad(), _parametrized_once(module), ExportableFunctions():
            program = torch.onnx.export(
                module,
                examples,
                input_names=list(input_names) if input_names is not None else argument_names(module, len(example)),
                output_names=output_names,
                opset_version=OPSET,
                dynamic_shapes=_dimensions(open_axes),
                dynamo=True,
                custom_translation_table=TRANSLATIONS,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever the module's code raises
        raise TraceError(f"{kind}: PyTorch cannot export it ({_cause(error)})") from error
    traced: onnx.ModelProto = program.model_proto  # type: ignore[union-attr]  # None only without dynamo
    _check_signature(traced, kind, output_names, open_axes)
    return traced


def _check_signature(
    traced: onnx.ModelProto, kind: str, output_names: Sequence[str] | None, open_axes: Sequence[Mapping[int, str]]
) -> None:
    """Raise ``TraceError`` where a graph has other outputs than asked, or fixes an axis that was to stay open."""
    count = len(traced.graph.output)
    if output_names is not None and len(output_names) != count:
        raise TraceError(f"{kind}: has {count} outputs, {len(output_names)} output_names are given")
    returned = {value.name for value in traced.graph.input} & {value.name for value in traced.graph.output}
    if returned:
        raise TraceError(f"{kind}: returns its input '{returned.pop()}' as it is; leave it out")
    for value, axes in zip(traced.graph.input, open_axes, strict=True):
        for axis, label in axes.items():
            if isinstance(dims_of(value)[axis], int):
                raise TraceError(
                    f"{kind}: its code fixes the {label} of input '{value.name}' at "
                    f"{dims_of(value)[axis]}; export with that size, or make the code follow its input's shape"
                )


def rewrite(traced: onnx.ModelProto, kind: str, modes: bool = True) -> onnx.ModelProto:
    """Return a traced graph with constants computed, and every sampling grid that allows it as one matrix product.

    Args:
        traced: Returned by ``trace``.
        kind: Name of the module, for error messages.
        modes: See ``rewrite_samplers``.

    Raises:
        TraceError: The graph holds something that cannot be rewritten.
    """
    try:
        graph = ir.from_proto(traced)
        fold_constants(graph)
        obstacle = expand_linear_systems(graph)
        if obstacle is not None:
            raise TraceError(f"{kind}: {obstacle}")
        fold_constants(graph)
        rewrite_samplers(graph, Changes(), modes)
        merge_layers(graph)
        ir.passes.common.ClearMetadataAndDocStringPass()(graph)  # the exporter writes our folders' names into it
        infer_shapes(graph)
        model = ir.to_proto(graph)
        onnx.checker.check_model(model, full_check=True)
    except TraceError:
        raise
    except Exception as error:  # onnx and onnx_ir raise many kinds
        raise TraceError(f"{kind}: its graph cannot be rewritten ({_cause(error)})") from error
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the deprecations and hints of PyTorch's exporter; a user cannot act on them."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx", "torch.export", "torch._subclasses")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # whole graphs, of what cannot be exported
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _parametrized_once(module: nn.Module) -> Iterator[None]:
    """Compute parametrized weights (spectral norm, weight norm, orthogonal) now, and keep them while the block runs.

    In evaluation mode they are constants, but traced they would be part of the graph.
    """
    with parametrize.cached():
        for part in module.modules():
            for name in getattr(part, "parametrizations", {}):
                getattr(part, name)
        yield


def argument_names(module: nn.Module, count: int) -> list[str]:
    """Return names for a graph's inputs: those of the arguments of a module's forward."""
    names = [name for name in inspect.signature(module.forward).parameters if name not in ("args", "kwargs")]
    return names[:count] if len(names) >= count else [f"input_{index}" for index in range(count)]


def _batches(kind: str, example: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return an example whose batch is not 1, which the exporter would take for a constant."""
    sizes = sorted({len(tensor) for tensor in example if tensor.ndim})
    if len(sizes) > 1:
        raise TraceError(
            f"{kind}: its inputs have {' and '.join(map(str, sizes))} elements along their first axis, which is to be "
            "the batch; give as many of each, or dynamic_batch=False"
        )
    return tuple(torch.cat([tensor, tensor]) if tensor.ndim and len(tensor) == 1 else tensor for tensor in example)


def _open_axes(tensor: Tensor, batch: bool, size: bool) -> dict[int, str]:
    axes = {0: "batch"} if batch and tensor.ndim else {}
    return axes | (_IMAGE_AXES if size and tensor.ndim == 4 else {})


def _dimensions(open_axes: Sequence[Mapping[int, str]]) -> tuple[dict[int, Any], ...] | None:
    if not any(open_axes):
        return None
    symbols = {"batch": torch.export.Dim("N"), "height": torch.export.Dim("H"), "width": torch.export.Dim("W")}
    return tuple({axis: symbols[label] for axis, label in axes.items()} for axes in open_axes)


def _cause(error: BaseException) -> str:
    """Return the first line of what the module's code or the exporter complained of."""
    while error.__cause__ is not None:
        error = error.__cause__
    missing = _MISSING_OPERATOR.search(str(error))
    if missing is not None:
        return (
            f"ONNX has no operator for {missing[1]}; where it does not depend on the inputs, compute it in __init__ "
            "and keep it as a buffer"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:240]
