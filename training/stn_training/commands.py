"""The commands of the trainer: train, evaluate, sheet."""

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from stn_models import load_checkpoint, save_checkpoint
from stn_models.registry import REGISTRY, parse_options
from stn_runtime import InputError
from stn_runtime.errors import MissingDependencyError
from stn_runtime.machine.filesystem import make_folder, write_whole
from stn_runtime.machine.interpreter import PIP

from .config import BALANCES, BENCHMARKS, GREY_BENCHMARKS, OPTIMIZERS, TrainConfig
from .data.augmentations import AUGMENTATIONS
from .data.data_module import ImageData, to_float
from .data.datasets import SPLITS, load_dataset
from .data.distortions import DIGIT_SIZE, DISTORTIONS
from .data.labelled_images import LabelledImages
from .data.listing import FileOptions
from .evaluation import ablation, sweep, thetas
from .evaluation.accuracy import (
    Report,
    Subject,
    evaluate_at_identity,
    files_of,
    load_test_images,
    open_subject,
    spaced,
)
from .evaluation.accuracy import evaluate as measure
from .evaluation.tables import save_rows
from .fit import find_rate, fit
from .initial_weights import is_checkpoint, network_of
from .optimisation.devices import is_launched, launch, world
from .optimisation.precision import PRECISIONS
from .optimisation.schedule import SCHEDULES
from .pictures import image_sheet, save_confusion, save_picture
from .recipes import read_options, read_recipe

_DATA = f"{', '.join(BENCHMARKS)}, a folder with a folder of images per class, or a table of path,label (.csv)"
_GROUP = "what in a file's path names a group, such as frames of one video; a split made here keeps it together"
_CLASS_NAMES = "text file with the name of each class, a line each, in the order of the sorted folders"
_ALL_FILES = "take also what other programs left in folders, such as ._IMG.jpg and @eaDir"


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stn train``; their defaults are those of TrainConfig."""
    parser.add_argument("data", nargs="?", help=_DATA)
    parser.add_argument("--recipe", help="options of a released recipe or of a YAML file; flags given beside it win")
    _add_run_arguments(parser)
    _add_network_arguments(parser)
    _add_data_arguments(parser)
    _add_training_arguments(parser)


def _option_of(parser: argparse.ArgumentParser) -> Callable[..., None]:
    """Return what declares one option of TrainConfig, its default in its help."""
    defaults = {entry.name: entry.default for entry in dataclasses.fields(TrainConfig)}

    def option(name: str, text: str, **settings: Any) -> None:  # noqa: ANN401  (argparse's own)
        default = defaults[name.replace("-", "_")]
        is_open = default in ("", (), dataclasses.MISSING, None) or default is False or "(default" in text
        shown = "" if is_open else f" (default: {default})"
        parser.add_argument(f"--{name}", default=None, help=text + shown, **settings)

    return option


def _add_network_arguments(parser: argparse.ArgumentParser) -> None:
    option = _option_of(parser)
    option("model", f"network: {', '.join(REGISTRY)}, or one of torchvision or timm: resnet18, timm/NAME")
    parser.add_argument(
        "--transformer",
        metavar="GRID@PLACE,...",
        help="transformers in a network of torchvision or timm, such as affine@input or affine@input,tps6@layer2",
    )
    parser.add_argument(
        "--image-size",
        metavar="SIDE",
        help="side of the network's input in pixels, or HEIGHTxWIDTH (default: the network's)",
    )
    parser.add_argument("--options", help="of the network, as JSON, such as '{\"grid\": \"tps\"}'; see 'stn models'")
    option(
        "weights",
        "what to start from: a checkpoint (.safetensors), whose network is taken, and its way to make a picture "
        "square; for networks of torchvision or timm a file of their weights (.pth, .safetensors), or imagenet",
    )
    option(
        "freeze", "epochs in which only fresh layers learn (default: a fifth with few images and --weights)", type=int
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    option = _option_of(parser)
    option("data-dir", "where benchmark data sets are kept")
    option("typefaces", "folder of typefaces that 'digits' prints with")
    option("backgrounds", "folder of photographs without digits, for scenes; without signs, for gtsrb's class nothing")
    option("reject", "class that means none of the others (default: nothing, where the data have it)")
    option("all-files", _ALL_FILES, action="store_true")
    option("group", _GROUP, metavar="REGEX")
    option("class-names", _CLASS_NAMES, metavar="FILE")
    option("fit", "how a picture becomes square", choices=["stretch", "letterbox", "crop"])
    option("distort", f"none, {', '.join(DISTORTIONS)}, or a mixture such as camera:0.6,rts:0.4")
    parser.add_argument(
        "--augment", help=f"any of {', '.join(AUGMENTATIONS)}, separated by commas; crop:4 gives one its number"
    )


def _add_training_arguments(parser: argparse.ArgumentParser) -> None:
    option = _option_of(parser)
    option("mixup", "alpha of MixUp, 0 for none", type=float)
    option("balance", "what evens out unequal classes", choices=BALANCES[1:])
    option("epochs", "passes over the training images (default: 20, up to 100 of few images)", type=int)
    option("batch-size", "images a step (default: 128, down to 8 of few images)", type=int)
    option("optimizer", "optimiser", choices=OPTIMIZERS)
    option("momentum", "of sgd", type=float)
    option("schedule", "of the learning rate", choices=SCHEDULES)
    option("lr", "highest learning rate", type=float)
    option("weight-decay", "of the optimiser", type=float)
    option("stn-lr-scale", "learning rate of localisation nets, as a share of --lr", type=float)
    option("theta-weight", "weight of the distance from where a distortion put the digit", type=float)
    option("ema", "decay of a moving average of the weights, 0 for none", type=float)
    option("clip", "largest norm of the gradient, 0 for none", type=float)
    option("label-smoothing", "share of the target given to other classes", type=float)
    option("precision", "of the arithmetic", choices=PRECISIONS)
    option("patience", "epochs without progress before stopping, 0 for never", type=int)
    option("seed", "decides everything random", type=int)
    option("picture-every", "epochs between before/after pictures, 0 for none", type=int)


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what a run does and where, which is not part of its config."""
    parser.add_argument("--output", type=Path, help="folder for the run (default: runs/MODEL)")
    parser.add_argument(
        "--devices", type=int, default=1, metavar="N", help="GPUs, or processes on a CPU, that train together"
    )
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with the run in this folder")
    parser.add_argument(
        "--find-lr",
        action="store_true",
        help="train nothing: try rates, draw lr.png in --output, and name one for --lr",
    )
    parser.add_argument(
        "--export", type=Path, metavar="FILE", help="at the end, also what 'stn export' makes of it (.onnx)"
    )


def train(args: argparse.Namespace) -> int:
    """Train a network, or resume a run."""
    if args.devices < 1:
        raise InputError(f"--devices must be at least 1, got {args.devices}")
    if args.find_lr and (args.devices > 1 or is_launched()):
        raise InputError("--find-lr searches on one device; leave out --devices")
    if args.devices > 1 and not is_launched():
        return launch(["train", *args.words], args.devices)
    export = None if args.export is None else _exporter(args.export)  # a fault is told before the work, not after it
    if args.resume is not None:
        config_file = args.resume / "config.json"
        if not config_file.is_file():
            raise InputError(f"{args.resume}: holds no training run (no config.json)")
        given = {"recipe": args.recipe, "output": args.output, "find_lr": args.find_lr or None}
        superfluous = [name for name, value in given.items() if value is not None] + sorted(_options_in(args))
        if superfluous:
            spelled = "the data" if superfluous[0] == "data" else f"--{superfluous[0].replace('_', '-')}"
            raise InputError(f"--resume takes everything from {config_file}; leave out {spelled}")
        config, folder = TrainConfig.from_mapping(read_options(config_file), str(config_file)), args.resume
    else:
        values = read_recipe(args.recipe) if args.recipe else {}
        given = _options_in(args)
        another = given.get("model", values.get("model")) != values.get("model")  # for which they do not hold
        kept = {} if another else values.get("options", {})
        values = {**values, **given, "options": {**kept, **given.get("options", {})}}
        if args.weights is not None and is_checkpoint(args.weights):
            network = network_of(args.weights)
            values = {**network, **values, "options": {**network["options"], **values.get("options", {})}}
        if "data" not in values:
            raise InputError(f"no data given; name {_DATA}")
        config = TrainConfig.from_mapping(values, str(args.recipe or "options"))
        folder = args.output or Path("runs") / config.model
    if args.find_lr:
        rate = find_rate(config, folder / "lr.png")
        sys.stdout.write(
            f"{folder / 'lr.png'}: the highest rate that promises well is {rate:g}; train with --lr {rate:g}\n"
        )
        return 0
    result = fit(config, folder, resume=args.resume is not None)
    if world()[0]:
        return 0  # the first of several devices tells, and exports
    accuracy = result.metrics.get("val_accuracy", 0.0)
    sys.stdout.write(
        f"{result.checkpoint}: validation accuracy {accuracy:.2%} in epoch {result.epoch}, {result.seconds:.0f} s\n"
    )
    return 0 if export is None else export(result.checkpoint, config.data)


def _exporter(path: Path) -> Callable[[Path, str], int]:
    """Return what exports a checkpoint to a path as ``stn export`` does, its pictures those of a folder of data.

    Raises:
        InputError: The path cannot be that of an exported file.
        MissingDependencyError: A package that exporting needs is missing.
    """
    if path.suffix != ".onnx":
        raise InputError(f"{path}: the exported file must end in .onnx")
    try:
        commands = import_module("stn_export.commands")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"--export needs package '{error.name}', which is not installed: {PIP} install 'stn-edge[export]'"
        ) from error
    make_folder(path.parent)

    def export(checkpoint: Path, data: str) -> int:
        parser = argparse.ArgumentParser()
        commands.add_export_arguments(parser)
        images = [] if data in BENCHMARKS or Path(data).is_file() else ["--images", data]
        status: int = commands.export(parser.parse_args([str(checkpoint), "-o", str(path), *images]))
        return status

    return export


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stn evaluate``."""
    parser.add_argument("model", help="checkpoint (.safetensors), .onnx file or released model")
    parser.add_argument("data", help=_DATA)
    parser.add_argument("--split", choices=SPLITS, default="test", help="which part (default: %(default)s)")
    parser.add_argument("--distort", default="", help=f"{', '.join(DISTORTIONS)}, or a mixture")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where benchmark data sets are kept")
    parser.add_argument("--all-files", action="store_true", help=_ALL_FILES)
    parser.add_argument("--group", default="", metavar="REGEX", help=_GROUP)
    parser.add_argument("--class-names", default="", metavar="FILE", help=_CLASS_NAMES)
    parser.add_argument("--seed", type=_seed, default=0, help="decides the distortions (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder for confusion.csv, confusion.png and report.json")
    parser.add_argument(
        "--ablate", action="store_true", help="accuracy and time with theta as learned and at the identity"
    )
    parser.add_argument(
        "--sweep", action="store_true", help="accuracy against rotation, scale, shift, shear and noise; sweep.png"
    )
    parser.add_argument(
        "--thetas", action="store_true", help="angle, scale, shear and shift of theta, class by class; thetas.png"
    )
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="MODEL", help="more models, for --ablate and --sweep"
    )
    parser.add_argument("--record", metavar="NAME", help="keep the accuracy in the checkpoint, for its manifest")


def evaluate(args: argparse.Namespace) -> int:
    """Measure a model on labelled images."""
    subject = open_subject(args.model)
    others = _opened_against(args, subject)
    if args.record and subject.network is None:
        raise InputError(f"{args.model}: --record writes to a checkpoint (.safetensors)")
    if args.output is not None:
        make_folder(args.output)  # before the work, not after it
    data = load_test_images(
        args.data,
        args.split,
        args.distort,
        subject.spec,
        args.data_dir,
        args.seed,
        files=files_of(subject.path, args.data, FileOptions(args.all_files, args.group, args.class_names)),
        reject=subject.reject,
    )
    report = measure(subject, data)
    sys.stdout.write(report.table() + "\n")
    identity = evaluate_at_identity(subject, data)
    if identity is not None:
        sys.stdout.write(f"accuracy {identity.accuracy:.2%} with every transformer held at the identity\n")
    if args.output is not None:
        _write_report(args, report, identity)
    if args.record:
        network, described = load_checkpoint(subject.path)
        metrics = {**described.metrics, args.record: 100 * report.accuracy}
        save_checkpoint(subject.path, network, dataclasses.replace(described, metrics=metrics))
    _understand(args, [subject, *others], data)
    return 0


def _opened_against(args: argparse.Namespace, subject: Subject) -> list[Subject]:
    """Return the models of ``--against``, after checking what the flags beside it need.

    Raises:
        InputError: Flags lack what they need, or a model is not like the first.
    """
    if args.against and not (args.ablate or args.sweep):
        raise InputError("--against names models for --ablate and --sweep; give one of these")
    if args.output is None and (args.sweep or args.thetas):
        raise InputError(f"--{'sweep' if args.sweep else 'thetas'} draws a picture; give a folder for it with --output")
    if args.thetas and (subject.network is None or subject.predict_at_identity is None):
        what = "has no transformer" if subject.network is not None else "is no checkpoint"
        raise InputError(f"{args.model}: {what}; --thetas needs a checkpoint (.safetensors) of a network with one")
    others = [open_subject(name) for name in args.against]
    for name, other in zip(args.against, others, strict=True):
        for what, own, its in (
            ("labels", subject.labels, other.labels),
            ("preprocessing", subject.spec, other.spec),
        ):
            if own != its:
                raise InputError(f"{name}: its {what} are not those of {args.model}; compare exports of one checkpoint")
    return others


def _understand(args: argparse.Namespace, subjects: list[Subject], data: LabelledImages) -> None:
    """Do what ``--ablate``, ``--sweep`` and ``--thetas`` ask for, one after the other."""
    if args.ablate:
        found = ablation.ablate(subjects, data)
        threads = torch.get_num_threads()
        sys.stdout.write(f"{ablation.table(found)}\ntimes on {threads} thread{'s' * (threads > 1)}, in turns\n")
        if args.output is not None:
            save_rows(found, args.output / "ablation.csv")
    if args.sweep:
        points = sweep.sweep(subjects, data, args.seed)
        save_rows(points, args.output / "sweep.csv")
        sweep.save_sweep(points, args.output / "sweep.png")
        sys.stdout.write(f"{args.output / 'sweep.png'}: {len(points)} points in sweep.csv\n")
    if args.thetas and subjects[0].network is not None:
        chosen = spaced(data, thetas.MOST_PICTURES)
        measured = thetas.measure_thetas(subjects[0].network, chosen)
        rows = list(thetas.rows(measured, chosen))
        sys.stdout.write(f"{thetas.table(rows)}\n")
        save_rows(rows, args.output / "thetas.csv")
        thetas.save_thetas(measured, chosen, args.output / "thetas.png")
        sys.stdout.write(f"{args.output / 'thetas.png'}: {len(chosen)} pictures, all figures in thetas.csv\n")


def add_sheet_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stn sheet``."""
    parser.add_argument("data", help=_DATA)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture to write (.png)")
    parser.add_argument("--distort", default="", help=f"{', '.join(DISTORTIONS)}, or a mixture")
    parser.add_argument("--augment", default="", help=f"any of {', '.join(AUGMENTATIONS)}, separated by commas")
    parser.add_argument("--count", type=int, default=72, help="how many images (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where benchmark data sets are kept")
    parser.add_argument("--all-files", action="store_true", help=_ALL_FILES)
    parser.add_argument("--seed", type=_seed, default=0, help="decides choice and distortions (default: %(default)s)")


def sheet(args: argparse.Namespace) -> int:
    """Draw a contact sheet of training images as the network would see them."""
    if args.count < 1:
        raise InputError(f"--count must be at least 1, got {args.count}")
    config = TrainConfig(args.data, distort=args.distort, augment=_names(args.augment), seed=args.seed)
    if config.data in GREY_BENCHMARKS:
        config = dataclasses.replace(config, options={"channels": 1, **({} if args.distort else {"image_size": 28})})
    spec = config.preprocess()
    source = dataclasses.replace(spec, height=DIGIT_SIZE, width=DIGIT_SIZE) if config.mixture() else spec
    data = load_dataset(args.data, "train", source, args.data_dir, FileOptions(args.all_files))
    generator = torch.Generator().manual_seed(args.seed)
    chosen = data.select(torch.randperm(len(data), generator=generator)[: args.count])
    batches = ImageData(chosen, chosen, config, spec)
    images, _ = batches.distorted_and_augmented(to_float(chosen.images), chosen.labels, generator)
    save_picture(args.output, image_sheet(images))
    sys.stdout.write(f"{args.output}: {len(chosen)} images of {images.shape[3]} x {images.shape[2]} pixels\n")
    return 0


def _options_in(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options on the command line by their names in TrainConfig."""
    names = [entry.name for entry in dataclasses.fields(TrainConfig)]
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "augment" in options:
        options["augment"] = _names(options["augment"])
    if "options" in options:
        try:
            options["options"] = parse_options(options["options"])
        except ValueError as error:
            raise InputError(str(error)) from error
    if args.transformer is not None or args.image_size is not None:
        spelled = {"transformer": list(_names(args.transformer))} if args.transformer is not None else {}
        if spelled and not spelled["transformer"]:
            raise InputError("--transformer is empty; name GRID@PLACE, such as affine@input, or leave it out")
        options["options"] = {**options.get("options", {}), **spelled, **_image_size(args.image_size)}
    return options


def _image_size(text: str | None) -> dict[str, int]:
    """Return what ``96`` or ``96x160`` says, as options of a network.

    Raises:
        InputError: The text is neither.
    """
    if text is None:
        return {}
    match = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text.strip())
    if match is None:
        raise InputError(
            f"--image-size must be a side in pixels, such as 96, or HEIGHTxWIDTH, such as 96x160; got '{text}'"
        )
    width = {"image_width": int(match[2])} if match[2] else {}
    return {"image_size": int(match[1]), **width}


def _seed(text: str) -> int:
    value = int(text) if text.isdecimal() else -1
    if not 0 <= value < 2**62:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got '{text}'")
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _write_report(args: argparse.Namespace, report: Report, identity: Report | None) -> None:
    save_confusion(report.confusion, report.classes, args.output)
    figures = {
        "model": args.model,
        "data": args.data,
        "split": args.split,
        "distort": args.distort,
        "seed": args.seed,
        "images": len(report.predicted),
        "accuracy": report.accuracy,
        "accuracy_at_identity": identity.accuracy if identity is not None else None,
    }
    write_whole(args.output / "report.json", f"{json.dumps(figures, indent=2)}\n".encode())
