"""The commands about models: verify and models."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from .errors import InputError, MissingDependencyError
from .golden import replay
from .manifest import Manifest
from .network import Network
from .session import open_session, read_manifest
from .zoo import find_model, released_models


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn verify`` takes."""
    parser.add_argument("model", help="released model or .onnx file")
    parser.add_argument(
        "--checkpoint", type=Path, help="compare with this checkpoint in PyTorch, beyond golden vectors"
    )
    parser.add_argument(
        "--providers", nargs="+", metavar="EP", help="execution providers to use; it is an error if one is missing"
    )


def verify(args: argparse.Namespace) -> int:
    """Replay the golden vectors of a model, and compare it with its checkpoint when one is given."""
    path = find_model(args.model)
    network = Network(path, providers=args.providers)
    result = replay(network)
    sys.stdout.write(f"{result.table()}\n")
    recorded = "PyTorch" if network.manifest.export.precision == "float32" else "onnxruntime at its export"
    verdict = f"answers as {recorded} did" if result.passed else f"does NOT answer as {recorded} did"
    provider = network.session.get_providers()[0]
    sys.stdout.write(f"{path.name} {verdict}: {result.pictures} golden vectors, on {provider}\n")
    status = 0 if result.passed else 1
    if args.checkpoint is not None:
        try:
            verification = import_module("stn_export.verification")
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"--checkpoint needs package '{error.name}', which is not installed: pip install 'stn-edge[export]'"
            ) from error
        status = max(status, verification.compare_files(path, args.checkpoint))
    return status


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
            figures = ", ".join(f"{key} {value:.2f}" for key, value in manifest.metrics.items())
            sys.stdout.write(f"{name:<24} released, {path.stat().st_size / 1e6:.2f} MB, {kind}, {figures}\n")
    try:
        networks = import_module("stn_models.registry")
    except ModuleNotFoundError as error:
        if args.name is None:
            return 0
        raise MissingDependencyError(
            f"no released model '{args.name}'; networks need package '{error.name}': pip install 'stn-edge[train]'"
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
    colour = "grey" if spec.channels == 1 else "RGB"
    lines = [
        f"{manifest.name}: {len(manifest.labels)} classes, {path.stat().st_size / 1e6:.2f} MB, {manifest.license}",
        f"  input      {spec.width} x {spec.height} {colour}, {spec.fit}",
        f"  exported   {export.form}, {export.precision}, opset {export.opset}, target {export.target}",
    ]
    lines += [
        f"  transform  {entry.name}: {entry.grid}, {entry.input_size} to {entry.output_size}, {entry.interpolation}, "
        f"padding {entry.padding}"
        for entry in manifest.transformers
    ]
    lines += [f"  {name:<25} {value:.2f}" for name, value in manifest.metrics.items()]
    lines += [f"  parity {name:<18} {value:.1e}" for name, value in manifest.parity.items()]
    gate = manifest.verification.get("gate")
    if isinstance(gate, dict):
        figures = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in gate.items()}
        lines += [f"  exported, {name:<15} {value}" for name, value in figures.items() if name != "precision"]
    return "\n".join(lines)
