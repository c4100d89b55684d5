"""The parity matrix: transformer x padding x size x form x precision x batch x theta, PyTorch against onnxruntime.

``python -m tests.parity.matrix`` prints the table that stands in export/README.md.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from stn_export import Deployment, Verification, plan_export
from stn_export.forms.precision import reduce_precision
from stn_export.network_graph import rewrite_graph, shape_graph, trace_network
from stn_export.proof.reference import Reference, pytorch_reference
from stn_export.proof.verification import verify_against
from stn_models import GRID_GENERATORS, Architecture
from stn_runtime import PreprocessSpec
from stn_runtime.model.manifest import Form, Precision

PADDINGS = ("zeros", "border", "reflection")
SIZES = (28, 42)
FORMS: tuple[Form, ...] = ("fused", "portable", "split")
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")
OUTPUTS = ("probabilities", "theta", "outline", "rectified")


@dataclass(frozen=True)
class Cell:
    """One network of the matrix."""

    grid: str
    padding: str
    size: int

    def __str__(self) -> str:
        return f"{self.grid}-{self.padding}-{self.size}"


def cells() -> list[Cell]:
    """Return every network of the matrix."""
    return [Cell(grid, padding, size) for grid in GRID_GENERATORS for padding in PADDINGS for size in SIZES]


def network(cell: Cell) -> Deployment:
    """Return the network of a cell with large random weights, so that theta and label depend on the picture."""
    torch.manual_seed(0)
    options = {"grid": cell.grid, "padding": cell.padding, "image_size": cell.size, "width": 16}
    model = Architecture("st-cnn", options).build().eval()
    torch.nn.init.normal_(model.transformer.localization.regression.weight, std=0.3)
    with torch.no_grad():
        for module in model.classifier.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.weight *= 2
    return Deployment(model, PreprocessSpec(cell.size, cell.size, 1)).eval()


@dataclass(frozen=True)
class Prepared:
    """What all forms and precisions of a cell share: one trace, and PyTorch's outputs for every batch and theta."""

    deployment: Deployment
    spec: PreprocessSpec
    pictures: NDArray[np.uint8]
    traced: onnx.ModelProto
    reference: Reference


@cache
def prepare(cell: Cell) -> Prepared:
    """Return a cell traced and run in PyTorch; once a process."""
    deployment, spec = network(cell), PreprocessSpec(cell.size, cell.size, 1)
    pictures = np.random.default_rng(cell.size).integers(0, 256, (32, cell.size, cell.size, 1), np.uint8)
    reference = pytorch_reference(deployment, spec, pictures[:1])
    return Prepared(deployment, spec, pictures, trace_network(deployment, spec), reference)


def measure(cell: Cell, kinds: Iterable[tuple[Form, Precision]]) -> dict[tuple[Form, Precision], Verification]:
    """Return how far each form and precision of a cell is from PyTorch, with the network's theta and with injected."""
    ready = prepare(cell)
    verifications = {}
    for form, precision in kinds:
        graph = reduce_precision(rewrite_graph(ready.traced, ready.deployment, form), precision, ready.pictures)
        model = shape_graph(graph, plan_export("cpu", form, precision))
        reference = ready.reference if precision == "float32" else _without_large_batches(ready.reference)
        verifications[form, precision] = verify_against(reference, ready.deployment, model, ready.spec, form, precision)
    return verifications


def _without_large_batches(reference: Reference) -> Reference:
    """Return a reference whose injected thetas come in small batches: grid and sampler are those of float32."""
    return replace(reference, injected=tuple(case for case in reference.injected if len(case.pictures) <= 3))


def main() -> None:
    """Print the matrix as Markdown tables: every network in float32, then the worst of all in each precision."""
    sys.stdout.write(
        f"| transformer | padding | size | form | {' | '.join(OUTPUTS)} |\n|{' --- |' * (4 + len(OUTPUTS))}\n"
    )
    worst: dict[tuple[Form, Precision], list[Verification]] = {}
    for cell in cells():
        for kind, verification in measure(cell, [(form, p) for form in FORMS for p in PRECISIONS]).items():
            worst.setdefault(kind, []).append(verification)
            if kind[1] == "float32":
                figures = " | ".join(f"{verification.differences[name]:.1e}" for name in OUTPUTS)
                sys.stdout.write(f"| {cell.grid} | {cell.padding} | {cell.size} | {kind[0]} | {figures} |\n")
                sys.stdout.flush()
    header = " | ".join([*OUTPUTS, *(f"{name}, theta given" for name in OUTPUTS)])
    sys.stdout.write(f"\n| form | precision | {header} |\n|{' --- |' * (2 + 2 * len(OUTPUTS))}\n")
    for (form, precision), verifications in worst.items():
        own = [max(v.own.differences[name] for v in verifications) for name in OUTPUTS]
        given = [max(v.injected.differences[name] for v in verifications if v.injected) for name in OUTPUTS]
        sys.stdout.write(f"| {form} | {precision} | {' | '.join(f'{value:.1e}' for value in [*own, *given])} |\n")


if __name__ == "__main__":
    main()
