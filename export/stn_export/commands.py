"""The command of the shipper: export."""

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stn_models import CheckpointError, load_checkpoint
from stn_runtime import InputError, preprocess
from stn_runtime.manifest import read_preprocess
from stn_runtime.sources import ImageFiles, open_source

from .exporter import ParityError, export_checkpoint
from .verification import BATCHES

_MOST_IMAGES = max(BATCHES) - 3  # beside black, white and noise


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn export`` takes."""
    parser.add_argument("checkpoint", type=Path, help="a .safetensors file written by 'stn train'")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .onnx file to write")
    parser.add_argument("--name", help="of the model, in its manifest (default: the output's stem)")
    parser.add_argument("--license", default="", help="of the weights, in the manifest, such as Apache-2.0")
    parser.add_argument("--images", help="pictures to verify with; four of them travel in the file as golden vectors")
    parser.add_argument("--no-rectified", action="store_true", help="leave out the output 'rectified'")


def export(args: argparse.Namespace) -> int:
    """Export a checkpoint; nothing is written when the graph differs from PyTorch."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    if args.output.suffix != ".onnx":
        raise InputError(f"{args.output}: the output must end in .onnx")
    images = None
    if args.images is not None:
        images = _read_images(args.images, args.checkpoint)
    else:
        sys.stderr.write("no --images given: verifying with generated pictures only\n")
    try:
        done = export_checkpoint(
            args.checkpoint,
            args.output,
            name=args.name,
            license=args.license,
            images=images,
            with_rectified=not args.no_rectified,
        )
    except ParityError as error:
        sys.stderr.write(f"stn: {error}\n")
        return 1
    sys.stdout.write(f"{done.parity.table()}\n")
    sys.stdout.write(
        f"{done.path}: {done.path.stat().st_size / 1e6:.2f} MB, opset {done.manifest.export.opset}, verified\n"
    )
    return 0


def _read_images(source: str, checkpoint: Path) -> NDArray[np.uint8]:
    try:
        _, described = load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    spec = read_preprocess(described.preprocess, str(checkpoint))
    files = open_source(source)
    if not isinstance(files, ImageFiles):
        raise InputError(f"{source}: --images takes pictures: a file, a folder or a pattern")
    step = max(1, len(files.paths) // _MOST_IMAGES)  # of every class some, not all of the first
    chosen = ImageFiles(files.paths[::step][:_MOST_IMAGES])
    found = [preprocess(frame.image, spec) for frame in chosen if frame.image is not None]
    if not found:
        raise InputError(f"{source}: none of the files can be read as a picture")
    return np.stack(found)
