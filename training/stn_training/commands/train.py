"""The command train."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from stn_models import Architecture
from stn_models.registry import REGISTRY, parse_options
from stn_runtime import InputError
from stn_runtime.errors import MissingDependencyError
from stn_runtime.machine.filesystem import check_writable, make_folder
from stn_runtime.machine.interpreter import PIP

from ..config import BALANCES, BENCHMARKS, OPTIMIZERS, TrainConfig
from ..data.augmentations import AUGMENTATIONS
from ..data.distortions import DISTORTIONS
from ..fit import find_rate, fit
from ..initial_weights import is_checkpoint, network_of
from ..optimisation.devices import is_launched, launch, world
from ..optimisation.precision import PRECISIONS
from ..optimisation.schedule import SCHEDULES
from ..recipes import read_options, read_recipe
from ..report.command import checked, write_report
from .options import ALL_FILES, CLASS_NAMES, DATA, GROUP, TYPEFACES_HELP, separated


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stn train``; their defaults are those of TrainConfig."""
    parser.add_argument("data", nargs="?", help=DATA)
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
    option("typefaces", TYPEFACES_HELP)
    option("backgrounds", "folder of photographs without digits, for scenes; without signs, for gtsrb's class nothing")
    option("reject", "class that means none of the others (default: nothing, where the data have it)")
    option("all-files", ALL_FILES, action="store_true")
    option("group", GROUP, metavar="REGEX")
    option("class-names", CLASS_NAMES, metavar="FILE")
    option("fit", "how a picture becomes square", choices=["stretch", "letterbox", "crop"])
    option("distort", f"none, {', '.join(DISTORTIONS)}, or a mixture such as camera:0.6,rts:0.4")
    parser.add_argument(
        "--augment", help=f"any of {', '.join(AUGMENTATIONS)}, separated by commas; crop:4 gives one its number"
    )


def _add_training_arguments(parser: argparse.ArgumentParser) -> None:
    option = _option_of(parser)
    option("mixup", "alpha of MixUp, 0 for none", type=float)
    option("balance", "what evens out unequal classes", choices=BALANCES[1:])
    option("epochs", "passes over the training images (default, or 0: 20, up to 100 of few images)", type=int)
    option("batch-size", "images a step (default, or 0: 128, down to 8 of few images)", type=int)
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
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="at the end, also a page about the run as of 'stn report' (.html)"
    )


def train(args: argparse.Namespace) -> int:
    """Train a network, or resume a run."""
    if args.devices < 1:
        raise InputError(f"--devices must be at least 1, got {args.devices}")
    if args.find_lr and (args.devices > 1 or is_launched()):
        raise InputError("--find-lr searches on one device; leave out --devices")
    if args.find_lr and (args.export or args.report):
        raise InputError("--find-lr trains nothing to export or report on; leave out --export and --report")
    if args.devices > 1 and not is_launched():
        return launch(["train", *args.words], args.devices)
    export = None if args.export is None else _exporter(args.export)  # a fault is told before the work, not after it
    page = None if args.report is None else checked(args.report)
    config, folder = _asked(args)
    if args.find_lr:
        rate = find_rate(config, folder / "lr.png")
        sys.stdout.write(
            f"{folder / 'lr.png'}: the highest rate that promises well is {rate:g}; train with --lr {rate:g}\n"
        )
        return 0
    try:
        result = fit(config, folder, resume=args.resume is not None)
    except KeyboardInterrupt:
        if (folder / "config.json").exists() and not world()[0]:
            sys.stderr.write(f"stn: interrupted; go on with --resume {folder}\n")
        raise
    if world()[0]:
        return 0  # the first of several devices tells, and exports
    accuracy = result.metrics.get("val_accuracy", 0.0)
    sys.stdout.write(
        f"{result.checkpoint}: validation accuracy {accuracy:.2%} in epoch {result.epoch}, {result.seconds:.0f} s\n"
    )
    status = 0 if export is None else export(result.checkpoint, config.data)
    if page is not None:
        write_report(folder, page, None if status else args.export)
        sys.stdout.write(f"{page}\n")
    return status


def _asked(args: argparse.Namespace) -> tuple[TrainConfig, Path]:
    """Return the settings that are asked for and the run's folder; those of a resumed run are its own.

    Raises:
        InputError: Settings are missing, unfit, or given beside ``--resume``.
    """
    if args.resume is not None:
        config_file = args.resume / "config.json"
        if not config_file.is_file():
            raise InputError(f"{args.resume}: holds no training run (no config.json)")
        given = {"recipe": args.recipe, "output": args.output, "find_lr": args.find_lr or None}
        superfluous = [name for name, value in given.items() if value is not None] + sorted(_options_in(args))
        if superfluous:
            spelled = "the data" if superfluous[0] == "data" else f"--{superfluous[0].replace('_', '-')}"
            raise InputError(f"--resume takes everything from {config_file}; leave out {spelled}")
        return TrainConfig.from_mapping(read_options(config_file), str(config_file)), args.resume
    values = read_recipe(args.recipe) if args.recipe else {}
    given = _options_in(args)
    another = given.get("model", values.get("model")) != values.get("model")  # for which they do not hold
    kept = {} if another else values.get("options", {})
    values = {**values, **given, "options": {**kept, **given.get("options", {})}}
    if args.weights is not None and is_checkpoint(args.weights):
        network = network_of(args.weights)
        if args.model is not None and args.model != network["model"]:
            raise InputError(
                f"{args.weights}: brings its network, '{network['model']}'; leave out --model {args.model}"
            )
        values = {**network, **values, "options": {**network["options"], **values.get("options", {})}}
    if "data" not in values:
        raise InputError(f"no data given; name {DATA}")
    _check_spelled(args, values.get("model", TrainConfig.model))
    config = TrainConfig.from_mapping(values, str(args.recipe or "options"))
    return config, args.output or Path("runs") / config.model


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
    check_writable(path.parent)

    def export(checkpoint: Path, data: str) -> int:
        parser = argparse.ArgumentParser()
        commands.add_export_arguments(parser)
        images = [] if data in BENCHMARKS or Path(data).is_file() else ["--images", data]
        status: int = commands.export(parser.parse_args([str(checkpoint), "-o", str(path), *images]))
        return status

    return export


def _options_in(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options on the command line by their names in TrainConfig."""
    names = [entry.name for entry in dataclasses.fields(TrainConfig)]
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "augment" in options:
        options["augment"] = separated(options["augment"])
    if "options" in options:
        try:
            options["options"] = parse_options(options["options"])
        except ValueError as error:
            raise InputError(str(error)) from error
    if args.transformer is not None or args.image_size is not None:
        spelled = {"transformer": list(separated(args.transformer))} if args.transformer is not None else {}
        if spelled and not spelled["transformer"]:
            raise InputError("--transformer is empty; name GRID@PLACE, such as affine@input, or leave it out")
        options["options"] = {**options.get("options", {}), **spelled, **_image_size(args.image_size)}
    return options


def _check_spelled(args: argparse.Namespace, model: str) -> None:
    """Refuse ``--transformer`` and an oblong ``--image-size`` for a network that does not take them.

    Raises:
        InputError: It does not.
    """
    if model not in REGISTRY:
        return
    network = Architecture(model)
    takers = [name for name in REGISTRY if Architecture(name).accepts("transformer")]
    others = f"take {' or '.join(takers)}, or one of torchvision, such as --model resnet18"
    if args.transformer is not None and not network.accepts("transformer"):
        raise InputError(f"--transformer: network '{model}' has its own, or is defined without; {others}")
    if "image_width" in _image_size(args.image_size) and not network.accepts("image_width"):
        raise InputError(f"--image-size {args.image_size}: network '{model}' takes squares; give one side, or {others}")


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
