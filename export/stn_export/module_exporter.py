"""Any PyTorch module with a spatial transformer as one ONNX graph, with the module's own inputs and outputs."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from stn_runtime import InputError

from .card import Card
from .exporter import export_classifier
from .forms.targets import Plan, plan_export
from .graph.onnx_files import write_onnx
from .network_graph import shape_graph
from .proof.any_module import compare_with_module
from .proof.graph_cuts import find_cuts
from .pytorch.output_names import names_of_outputs
from .pytorch.plain_modules import in_single_precision, plain_module
from .pytorch.tracing import argument_names, rewrite, trace


def export_onnx(
    module: nn.Module,
    path: Path | str,
    example: Tensor | Sequence[Tensor],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool | None = None,
    dynamic_size: bool = False,
    plan: Plan | None = None,
    card: Card | None = None,
) -> dict[str, float]:
    """Write any module with a spatial transformer as ONNX: its own forward and signature, its samplers made fast.

    ``affine_grid`` and ``grid_sample`` may be called anywhere in it. The file appears only after PyTorch and
    onnxruntime gave the same answers on the example and on random inputs of its range.

    Args:
        module: Any module whose forward takes tensors and returns tensors; it is exported in evaluation mode, and in
            float32 where it is in float64 or bfloat16. Of a compiled or data-parallel module, what it holds is.
        path: The .onnx file to write.
        example: One batch of the module's inputs.
        input_names: Names for the graph's inputs; by default the names of forward's arguments.
        output_names: Names for the graph's outputs; by default those that the module gives them in a dict or named
            tuple, else those of PyTorch's exporter.
        dynamic_batch: Whether the batch size stays open; by default, unless the target wants fixed shapes.
        dynamic_size: Whether height and width of images stay open, which costs the constant grid.
        plan: Form and opset, see ``plan_export``; by default fused, opset 18.
        card: Makes the file a model file for ``stn run``, with a manifest. The module is then a classifier of images
            in [0, 1], and names and open sizes are those of a model file. See ``export_classifier``.

    Returns:
        Largest difference of each output from PyTorch, relative to the output's largest value; with a card, absolute.

    Raises:
        InputError: The module cannot be exported like this.
        ParityError: The graph differs from PyTorch; nothing was written.
    """
    plan, output = plan or plan_export(), Path(path)
    examples = _check_arguments(module, output, example, plan)
    if card is not None:
        return export_classifier(module, output, card, plan=plan).verification.differences
    if plan.form == "split":
        raise InputError("the split form needs a classifier with a manifest: give a card")
    with plain_module(module, examples) as plain:
        examples = tuple(in_single_precision(tensor) for tensor in examples)
        names = list(input_names) if input_names is not None else argument_names(plain, len(examples))
        own_names = names_of_outputs(plain, examples, names)
        traced = trace(
            plain,
            examples,
            input_names=names,
            output_names=output_names if output_names is not None else own_names,
            dynamic_batch=not plan.static if dynamic_batch is None else dynamic_batch,
            dynamic_size=dynamic_size,
        )
        whole = rewrite(traced, type(plain).__name__)
        model = shape_graph(whole, plan)
        differences = compare_with_module(plain, model, examples, find_cuts(whole))
    write_onnx(model.SerializeToString(), output)
    return differences


def _check_arguments(
    module: object, output: Path, example: Tensor | Sequence[Tensor], plan: Plan
) -> tuple[Tensor, ...]:
    """Return the example as tensors on the CPU, after checking that the module can be exported like this."""
    if plan.precision != "float32":
        raise InputError(
            f"precision {plan.precision} is judged on labelled images: use export_classifier(data=...), "
            "or 'stn export --data' for a checkpoint"
        )
    if not isinstance(module, nn.Module):
        raise InputError(f"a torch.nn.Module is exported, this is a {type(module).__name__}")
    if output.suffix != ".onnx":
        raise InputError(f"{output}: the output must end in .onnx")
    examples = [example] if isinstance(example, Tensor) else list(example)
    if not examples or not all(isinstance(tensor, Tensor) for tensor in examples):
        raise InputError("the example must be a tensor, or several: one batch of what the module takes")
    away = {tensor.device for tensor in [*module.parameters(), *module.buffers()]} - {torch.device("cpu")}
    if away:
        raise InputError(f"{type(module).__name__} is on {away.pop()}; move it to the CPU first: module.cpu()")
    return tuple(tensor.detach().cpu() for tensor in examples)
