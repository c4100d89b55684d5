"""The command models: list the released models and the networks, or show one."""

import argparse
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from ..errors import InputError, MissingDependencyError, printable
from ..machine.interpreter import PIP
from ..model.manifest import Manifest
from ..model.session import open_session, read_manifest
from ..model.zoo import DEFAULT_MODEL, find_model, released_models

_MOST_LINES = 40  # of each list in a model file


def add_models_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn models`` takes."""
    parser.add_argument("name", nargs="?", help="a released model or a network; without it all are listed")
    parser.add_argument("--options", default="{}", metavar="JSON", help='of a network, such as \'{"grid": "tps"}\'')


def models(args: argparse.Namespace) -> int:
    """List models, or show one."""
    released = released_models()
    if args.name in released or (args.name and args.name.endswith(".onnx")):
        path = find_model(args.name)
        sys.stdout.write(_card(path, read_manifest(open_session(path), str(path))) + "\n")
        return 0
    if args.name is None:
        for name, path in released.items():
            manifest = read_manifest(open_session(path), str(path))
            kind = f"{manifest.export.form} {manifest.export.precision}"
            figures = ", ".join(f"{key} {_figure(value)}" for key, value in manifest.metrics.items())
            mark = " (default)" if name == DEFAULT_MODEL else ""
            size = f"{path.stat().st_size / 1e6:.2f} MB"
            sys.stdout.write(f"{name:<24} released{mark}, {_input(manifest)}, {size}, {kind}, {figures}\n")
    try:
        networks = import_module("stn_models.registry")
    except ModuleNotFoundError as error:
        if args.name is None:
            return 0
        raise MissingDependencyError(
            f"no released model '{args.name}'; networks need package '{error.name}': {PIP} install 'stn-edge[train]'"
        ) from error
    try:
        if args.name is None:
            sys.stdout.write("".join(f"{name:<24} network, 'stn models {name}'\n" for name in networks.REGISTRY))
        else:
            network = networks.Architecture(args.name, networks.parse_options(args.options))
            sys.stdout.write(networks.parameter_table(network.build_without_memory()) + "\n")
    except ValueError as error:
        raise InputError(str(error)) from error
    return 0


def _card(path: Path, manifest: Manifest) -> str:
    spec, export = manifest.preprocess, manifest.export
    what = f"{len(manifest.labels)} classes"
    if manifest.sequence is not None:
        what = f"texts of up to {manifest.sequence.length} of {len(manifest.labels) - 1} characters"
    lines = [
        f"{printable(manifest.name)}: {what}, {path.stat().st_size / 1e6:.2f} MB"
        f"{f', {printable(manifest.license)}' if manifest.license else ''}",
        f"  input      {_input(manifest)}, {spec.fit}",
        f"  exported   {export.form}, {export.precision}, opset {export.opset}, target {printable(export.target)}",
    ]
    rule = manifest.label_rule()
    lines += [f"  in a run   {rule}"] if rule else []
    lines += _shortened(
        f"  transform  {printable(entry.name)}: {printable(entry.grid)}, {entry.input_size} to {entry.output_size}, "
        f"{entry.interpolation}, padding {entry.padding}"
        for entry in manifest.transformers
    )
    lines += _shortened(
        f"  {printable(name, 60):<25} {printable(f'{value:.2f}', 30)}" for name, value in manifest.metrics.items()
    )
    lines += _shortened(f"  parity {printable(name, 60):<18} {value:.1e}" for name, value in manifest.parity.items())
    gate = manifest.verification.get("gate")
    if isinstance(gate, dict):
        figures = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in gate.items()}
        lines += _shortened(
            f"  exported, {printable(name, 60):<15} {printable(str(value))}"
            for name, value in figures.items()
            if name != "precision"
        )
    return "\n".join(lines)


def _input(manifest: Manifest) -> str:
    spec = manifest.preprocess
    return f"{spec.width} x {spec.height} {'grey' if spec.channels == 1 else 'RGB'}"


def _figure(value: float) -> str:
    return printable(f"{value:.2f}", 30)  # 1e300 has 300 digits


def _shortened(lines: Iterable[str]) -> list[str]:
    """Return the first lines of a list in a model file, and how many more there are."""
    every = list(lines)
    more = [f"  and {len(every) - _MOST_LINES} more"] if len(every) > _MOST_LINES else []
    return every[:_MOST_LINES] + more
