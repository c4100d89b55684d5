"""The parity matrix: transformer x padding x size x batch x theta, PyTorch against onnxruntime.

``python tests/parity/matrix.py`` prints the table that stands in export/README.md.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from stn_export import Deployment, Parity, compare, export_graph
from stn_export.verification import BATCHES, hostile_thetas, ort_outputs, torch_outputs, with_theta_inputs
from stn_models import GRID_GENERATORS, Architecture, injected_thetas
from stn_runtime import PreprocessSpec
from stn_runtime.session import open_session

PADDINGS = ("zeros", "border", "reflection")
SIZES = (28, 42)


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


def measure(cell: Cell) -> tuple[Parity, Parity]:
    """Return the parity of a cell over batches: with theta from the picture, and with hostile thetas injected."""
    deployment = network(cell)
    spec = PreprocessSpec(cell.size, cell.size, 1)
    graph = export_graph(deployment, spec)
    session = open_session(graph.SerializeToString())
    cut, names = with_theta_inputs(graph)
    fed = open_session(cut.SerializeToString())
    own = injected = Parity({}, 0, 0)
    for batch in _pictures(cell.size):
        own |= compare(torch_outputs(deployment, batch), ort_outputs(session, {"image": batch}))
        for thetas in hostile_thetas(deployment):
            with injected_thetas(deployment.model, thetas):
                expected = torch_outputs(deployment, batch)
            feeds = {name: theta.expand(len(batch), -1).numpy() for name, theta in zip(names, thetas, strict=True)}
            injected |= compare(expected, ort_outputs(fed, {"image": batch, **feeds}))
    return own, injected


def _pictures(size: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(size)
    for batch in BATCHES:
        yield random.integers(0, 256, (batch, size, size, 1), np.uint8)


def main() -> None:
    """Print the matrix as a Markdown table."""
    outputs = ("probabilities", "theta", "outline", "rectified")
    sys.stdout.write(f"| transformer | padding | size | {' | '.join(outputs)} | labels differ |\n")
    sys.stdout.write(f"|{' --- |' * (4 + len(outputs))}\n")
    for cell in cells():
        own, injected = measure(cell)
        worst = own | injected
        figures = " | ".join(f"{worst.differences[name]:.1e}" for name in outputs)
        sys.stdout.write(f"| {cell.grid} | {cell.padding} | {cell.size} | {figures} | {worst.labels_differ} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
