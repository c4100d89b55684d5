"""``stn optimize`` on files that others exported: that they answer as before, and how much faster they are.

``python -m tests.benchmarks.bench_optimize`` prints two Markdown tables: medians of interleaved runs, batch 1, one
thread. The second is of warps alone, without a classifier, so that the grid is most of the time.
"""

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.nn import functional

from stn_export import optimize_onnx
from stn_export.graph.onnx_files import opset_of, read_onnx
from tests.support import warping_networks as warp
from tests.support.warping_networks import NETWORKS

SIZE = 48
Grid = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Foreign:
    """A file as someone else would have made it.

    Attributes:
        dynamo: Whether PyTorch's newer exporter writes the file; otherwise TorchScript.
        opset: Asked of it.
        grid: How the code makes the sampling grid of thetas (N, 2, 3) and an image.
        align_corners: Convention of grid and sampler.
        channels: Channels of the image.
        transformers: One after the other.
        padding: Padding of the sampler.
    """

    dynamo: bool
    opset: int
    grid: str
    align_corners: bool = False
    channels: int = 3
    transformers: int = 1
    padding: str = "zeros"

    def __str__(self) -> str:
        made = f"{'dynamo' if self.dynamo else 'TorchScript'} {self.opset}, {self.grid}, {self.channels} channels"
        corners = ", align_corners" if self.align_corners else ""
        twice = ", two transformers" if self.transformers == 2 else ""
        return f"{made}{corners}{twice}{'' if self.padding == 'zeros' else f', {self.padding}'}"


FILES = (
    Foreign(True, 18, "affine_grid", channels=1),
    Foreign(True, 18, "affine_grid"),
    Foreign(True, 18, "affine_grid", align_corners=True),
    Foreign(True, 18, "affine_grid", align_corners=True, padding="border"),
    Foreign(True, 18, "affine_grid", transformers=2),
    Foreign(True, 20, "affine_grid"),
    Foreign(True, 22, "affine_grid", align_corners=True, channels=1),
    Foreign(False, 20, "affine_grid"),
    Foreign(False, 20, "affine_grid", align_corners=True, channels=1),
    Foreign(False, 16, "einsum"),
    Foreign(False, 17, "bmm", align_corners=True),
    Foreign(False, 16, "matmul", channels=1, transformers=2),
)


class Network(nn.Module):
    """A small classifier behind one or two transformers whose grids are made in one of the ways of ``FILES``."""

    def __init__(self, kind: Foreign) -> None:
        super().__init__()
        self.kind = kind
        self.locate = nn.Sequential(nn.Conv2d(kind.channels, 8, 5, stride=2), nn.ReLU(), nn.AvgPool2d(5))
        self.theta = nn.Linear(128, 6)
        self.classify = nn.Sequential(
            nn.Conv2d(kind.channels, 16, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(7744, 10)
        )
        axis = (
            torch.arange(SIZE) * 2 / (SIZE - 1) - 1 if kind.align_corners else (torch.arange(SIZE) * 2 + 1) / SIZE - 1
        )
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("base", torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits."""
        for _ in range(self.kind.transformers):
            theta = self.theta(self.locate(image).flatten(1)).view(-1, 2, 3)
            corners, padding = self.kind.align_corners, self.kind.padding
            image = functional.grid_sample(image, self.grid(theta, image), "bilinear", padding, corners)
        return self.classify(image)

    def grid(self, theta: Tensor, image: Tensor) -> Tensor:
        """Return the sampling grid (N, H, W, 2)."""
        if self.kind.grid == "affine_grid":
            return functional.affine_grid(theta, list(image.shape), align_corners=self.kind.align_corners)
        if self.kind.grid == "einsum":
            points = torch.einsum("pj,nij->npi", self.base, theta)
        elif self.kind.grid == "bmm":
            points = torch.bmm(self.base[None].expand(theta.size(0), -1, -1), theta.transpose(1, 2))
        else:
            points = torch.matmul(theta, self.base.T).transpose(1, 2)
        return points.reshape(-1, SIZE, SIZE, 2)


def write(kind: Foreign, path: Path) -> None:
    """Export a network as its kind says."""
    torch.manual_seed(0)
    network = Network(kind).eval()
    image = torch.rand(2, kind.channels, SIZE, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind.dynamo:
            shapes = ({0: torch.export.Dim("N")},)
            program = torch.onnx.export(
                network, (image,), dynamo=True, opset_version=kind.opset, dynamic_shapes=shapes, verbose=False
            )
            program.save(path)
        else:
            torch.onnx.export(
                network,
                (image,),
                path,
                dynamo=False,
                opset_version=kind.opset,
                input_names=["image"],
                dynamic_axes={"image": {0: "N"}},
            )


def race(paths: list[Path], channels: int, rounds: int) -> tuple[list[float], float]:
    """Return the median microseconds of each file, run in turns, and the median ratio of the first to the last."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths]
    image = np.random.default_rng(0).random((1, channels, SIZE, SIZE), np.float32)
    times: list[list[float]] = [[] for _ in paths]
    for _ in range(rounds):
        for session, taken in zip(sessions, times, strict=True):
            feeds = {session.get_inputs()[0].name: image}
            session.run(None, feeds)  # the other file's constants left the cache
            started = time.perf_counter()
            session.run(None, feeds)
            taken.append(time.perf_counter() - started)
    ratio = statistics.median(first / last for first, last in zip(times[0], times[-1], strict=True))
    return [1e6 * statistics.median(taken) for taken in times], ratio


def report(name: str, before: Path, after: Path, channels: int, rounds: int) -> None:
    """Optimise a file and write its line of a table."""
    done = optimize_onnx(before, after)
    (slow, fast), ratio = race([before, after], channels, rounds)
    difference = max(done.differences.values(), default=0.0)
    opsets = f"{opset_of(read_onnx(before))} to {opset_of(read_onnx(after))}"
    sys.stdout.write(f"| {name} | {slow:.0f} us | {fast:.0f} us | {ratio:.2f}x | {difference:.1e} | {opsets} |\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="of each file (default: %(default)s)")
    args = parser.parse_args()
    sys.stdout.write("| exported by | before | after | faster | largest difference | opset |\n|" + " --- |" * 6 + "\n")
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        for kind in FILES:
            write(kind, before)
            report(str(kind), before, after, kind.channels, args.rounds)
        sys.stdout.write("\n| grid, exported by | before | after | faster | largest difference | opset |\n")
        sys.stdout.write("|" + " --- |" * 6 + "\n")
        for name, network in NETWORKS.items():
            for dynamo in (True, False):
                torch.manual_seed(0)
                opset = 18 if dynamo else 20
                warp.write(network(SIZE, SIZE).eval(), torch.rand(2, 1, SIZE, SIZE), before, dynamo, opset)
                label = f"{name}, {'dynamo' if dynamo else 'TorchScript'}"
                report(label, before, after, 1, args.rounds)


if __name__ == "__main__":
    main()
