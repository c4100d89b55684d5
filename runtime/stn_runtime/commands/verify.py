"""The command verify: does a model answer here as it did where it was exported?"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from ..errors import MissingDependencyError
from ..machine.interpreter import PIP
from ..model.golden import replay
from ..model.network import Network
from ..model.zoo import find_model


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
    rule = network.manifest.label_rule()
    sys.stdout.write(f"in a run: {rule}\n" if rule else "")
    status = 0 if result.passed else 1
    if args.checkpoint is not None:
        try:
            verification = import_module("stn_export.proof.verification")
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"--checkpoint needs package '{error.name}', which is not installed: {PIP} install 'stn-edge[export]'"
            ) from error
        status = max(status, verification.compare_files(path, args.checkpoint))
    return status
