"""The command sheet."""

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

from stn_runtime import InputError

from ..config import GREY_BENCHMARKS, TrainConfig
from ..data.augmentations import AUGMENTATIONS
from ..data.data_module import ImageData, to_float
from ..data.datasets import TYPEFACES, load_dataset
from ..data.distortions import DIGIT_SIZE, DISTORTIONS
from ..data.listing import FileOptions
from ..numbers.plates import house_plates
from ..pictures import image_sheet, save_picture
from .options import ALL_FILES, DATA, TYPEFACES_HELP, seed, separated


def add_sheet_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stn sheet``."""
    parser.add_argument("data", help=DATA)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture to write (.png)")
    parser.add_argument("--distort", default="", help=f"{', '.join(DISTORTIONS)}, or a mixture")
    parser.add_argument("--augment", default="", help=f"any of {', '.join(AUGMENTATIONS)}, separated by commas")
    parser.add_argument("--count", type=int, default=72, help="how many images (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where benchmark data sets are kept")
    parser.add_argument("--typefaces", type=Path, default=TYPEFACES, help=f"{TYPEFACES_HELP} (default: %(default)s)")
    parser.add_argument("--all-files", action="store_true", help=ALL_FILES)
    parser.add_argument("--seed", type=seed, default=0, help="decides choice and distortions (default: %(default)s)")


def sheet(args: argparse.Namespace) -> int:
    """Draw a contact sheet of training images as the network would see them."""
    if args.count < 1:
        raise InputError(f"--count must be at least 1, got {args.count}")
    config = TrainConfig(args.data, distort=args.distort, augment=separated(args.augment), seed=args.seed)
    if config.data in GREY_BENCHMARKS:
        config = dataclasses.replace(config, options={"channels": 1, **({} if args.distort else {"image_size": 28})})
    spec = config.preprocess()
    source = dataclasses.replace(spec, height=DIGIT_SIZE, width=DIGIT_SIZE) if config.mixture() else spec
    if args.data == "house-plates":
        data = house_plates("train", source, args.typefaces, args.count)  # all of them take minutes
    else:
        data = load_dataset(args.data, "train", source, args.data_dir, FileOptions(args.all_files), args.typefaces)
    generator = torch.Generator().manual_seed(args.seed)
    chosen = data.select(torch.randperm(len(data), generator=generator)[: args.count])
    batches = ImageData(chosen, chosen, config, spec)
    images, _ = batches.distorted_and_augmented(to_float(chosen.images), chosen.labels, generator)
    save_picture(args.output, image_sheet(images))
    sys.stdout.write(f"{args.output}: {len(chosen)} images of {images.shape[3]} x {images.shape[2]} pixels\n")
    return 0
