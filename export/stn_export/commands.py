"""The commands of the shipper: export, optimize."""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from stn_models import Checkpoint, CheckpointError, load_checkpoint
from stn_runtime import InputError, MissingDependencyError, ModelContractError, PreprocessSpec, preprocess
from stn_runtime.errors import LONGEST_MESSAGE, printable
from stn_runtime.machine.interpreter import PIP
from stn_runtime.machine.memory import free_memory
from stn_runtime.machine.threads import OverLimitError, run_within
from stn_runtime.model.manifest import Form, Precision, read_preprocess
from stn_runtime.model.zoo import find_model
from stn_runtime.sources.image_files import ImageFiles
from stn_runtime.sources.opening import open_source

from .exporter import Exported, export_checkpoint
from .forms.targets import Target, find_target, plan_export, target_table
from .graph.onnx_files import read_onnx
from .graph_comparison import DifferenceError
from .linting import Finding, lint
from .optimizer import optimize_onnx
from .proof.gates import GateError, TestSet
from .proof.reference import LEAST_REAL
from .proof.verification import ParityError
from .web_page import VERSION, check_output, write_page

log = logging.getLogger(__name__)

T = TypeVar("T")

_SECONDS = 300.0  # for a look into a stranger's file
_LEAST_MEMORY = 256 << 20  # bytes that it may take where little is free
_MEASURED_IMAGES = 1000  # where theta or the threshold is measured on them
_CALIBRATION_IMAGES = 256


class _ListTargets(argparse.Action):
    """Prints the table of targets, as --help prints the options."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        sys.stdout.write(target_table() + "\n")
        parser.exit()


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn export`` takes."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="a .safetensors file written by 'stn train'; for a page also an .onnx file, or a released model's name",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="the .onnx file to write; with --target web also a folder, which becomes a page that runs the model",
    )
    parser.add_argument("--single-file", action="store_true", help="of a page: one .html that opens from disk")
    parser.add_argument(
        "--onnxruntime-web",
        type=Path,
        metavar="TGZ",
        help=f"of a page: what 'npm pack onnxruntime-web@{VERSION}' fetches (default: taken from npm's registry, once)",
    )
    parser.add_argument("--name", help="of the model, in its manifest (default: the output's stem)")
    parser.add_argument("--license", default="", help="of the weights, in the manifest, such as Apache-2.0")
    parser.add_argument(
        "--images",
        help="pictures to verify with; four of them travel in the file as golden vectors; in a folder per class, they "
        "also give the threshold that a checkpoint lacks",
    )
    parser.add_argument("--no-rectified", action="store_true", help="leave out the output 'rectified'")
    parser.add_argument("--target", default="cpu", metavar="NAME", help="where it will run (default: %(default)s)")
    parser.add_argument("--list-targets", action=_ListTargets, nargs=0, help="print the targets and what they can do")
    parser.add_argument("--form", choices=get_args(Form), help="instead of the target's")
    parser.add_argument("--precision", choices=get_args(Precision), help="instead of the target's")
    parser.add_argument(
        "--opset", type=int, metavar="N", help="instead of the target's: 16 to 18; portable and split from 13"
    )
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="NODE",
        help="nodes that stay in float32; 'localization' is all that theta is computed by",
    )
    _add_data_arguments(parser)


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", help="labelled images to measure with, and to calibrate reduced precision: as for 'stn evaluate'"
    )
    parser.add_argument("--distort", default="", help="of --data, as for 'stn evaluate'")
    parser.add_argument("--group", default="", metavar="REGEX", help="of --data, as for 'stn evaluate'")
    parser.add_argument("--class-names", default="", metavar="FILE", help="of --data, as for 'stn evaluate'")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where benchmark data sets are kept")
    parser.add_argument(
        "--typefaces", type=Path, default=Path("/usr/share/fonts"), help="of --data digits, house-plates"
    )


def export(args: argparse.Namespace) -> int:
    """Export a checkpoint, or make a page of it; nothing is written when the graph differs from PyTorch."""
    if args.target == "web" and args.output.suffix != ".onnx":
        return _export_page(args)
    if args.single_file or args.onnxruntime_web is not None:
        raise InputError("--single-file and --onnxruntime-web are for a page: add --target web, and no .onnx with -o")
    return _export_file(args)


def _export_page(args: argparse.Namespace) -> int:
    check_output(args.output, args.single_file)
    if args.checkpoint.suffix == ".safetensors":
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / f"{args.output.stem}.onnx"
            failed = _export_file(argparse.Namespace(**{**vars(args), "output": model}))
            if failed:
                return failed
            return _write_page(model, args)
    return _write_page(find_model(args.checkpoint), args)


def _write_page(model: Path, args: argparse.Namespace) -> int:
    manifest = write_page(model, args.output, single_file=args.single_file, archive=args.onnxruntime_web)
    way = "open it in a browser" if args.single_file else f"python -m http.server -d {args.output}"
    sys.stdout.write(f"{args.output}: a page that runs {manifest.name}; {way}\n")
    return 0


def _export_file(args: argparse.Namespace) -> int:
    if args.output.suffix != ".onnx":
        raise InputError(f"{args.output}: the output must end in .onnx")
    plan = plan_export(args.target, args.form, args.precision, args.opset)
    described = _describe(args.checkpoint)
    spec = read_preprocess(described.preprocess, str(args.checkpoint))
    images, image_labels = None, None
    if args.images is not None:
        images, image_labels = _read_images(args.images, spec, described)
    else:
        sys.stderr.write("no --images given: verifying with generated pictures only\n")
    data = _read_data(args, spec) if args.data is not None else None
    try:
        done = export_checkpoint(
            args.checkpoint,
            args.output,
            name=args.name,
            license=args.license,
            images=images,
            image_labels=image_labels,
            with_rectified=not args.no_rectified,
            plan=plan,
            data=data,
            exclude=args.exclude,
        )
    except (ParityError, GateError) as error:
        sys.stderr.write(f"stn: {error}\n")
        return 1
    sys.stdout.write(f"{done.verification.table()}\n")
    if done.gate is not None:
        sys.stdout.write(f"{done.gate.sentence()}\n")
    _report_threshold(done, described, args)
    for finding in lint(read_onnx(done.path), find_target(args.target)):
        if finding.fails:
            sys.stderr.write(f"on {args.target} this will fail: {finding.sentence}\n")
    made = done.manifest.export
    size = done.path.stat().st_size / 1e6
    sys.stdout.write(f"{done.path}: {size:.2f} MB, {made.form}, {made.precision}, opset {made.opset}, verified\n")
    return 0


def add_optimize_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn optimize`` takes."""
    parser.add_argument("model", type=Path, help="any .onnx file with affine_grid and grid_sample in it")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .onnx file to write")


def optimize(args: argparse.Namespace) -> int:
    """Make the spatial transformers of an ONNX file fast; nothing is written when its answers change."""
    if args.output.suffix != ".onnx":
        raise InputError(f"{args.output}: the output must end in .onnx")
    try:
        done = _bounded(lambda: optimize_onnx(args.model, args.output), args.model)
    except DifferenceError as error:
        sys.stderr.write(f"stn: {printable(str(error), LONGEST_MESSAGE)}\n")
        return 1
    lines = [f"changed: {sentence}" for sentence in done.changes.made]
    lines += [f"kept: {sentence}" for sentence in done.changes.kept]
    lines += [
        f"output '{name}': largest difference on random inputs {value:.1e} of its largest value"
        for name, value in done.differences.items()
    ]
    verdict = "unchanged: there is nothing to gain" if done.is_unchanged else "verified against the original"
    if done.is_unchanged and done.changes.kept:
        verdict = "unchanged: nothing in it could be improved"
    shown = [printable(line, LONGEST_MESSAGE) for line in (*lines, f"{args.output}: {verdict}")]
    sys.stdout.write("\n".join(shown) + "\n")
    return 0


def print_findings(path: Path, target_name: str) -> int:
    """Print what will go wrong with a file on a target; return 1 when something will fail.

    Raises:
        InputError: The file cannot be read, or there is no such target.
    """
    target = find_target(target_name)
    findings = _bounded(lambda: _lint_file(path, target), path)
    for finding in findings:
        sentence = printable(finding.sentence, LONGEST_MESSAGE)
        sys.stdout.write(f"{'FAILS' if finding.fails else 'note '}  {sentence}\n")
    sys.stdout.write("".join(f"known  {sentence}\n" for sentence in target.known))
    failing = sum(finding.fails for finding in findings)
    verdict = f"{failing} will fail" if failing else "nothing known will fail"
    sys.stdout.write(f"{path.name} on {target.name} ({target.summary}): {verdict}\n")
    return 1 if failing else 0


def _lint_file(path: Path, target: Target) -> list[Finding]:
    model = read_onnx(path)
    try:
        return lint(model, target)
    except InputError as error:
        raise ModelContractError(f"{path}: {error}") from error


def _bounded(look: Callable[[], T], path: Path) -> T:
    """Return what a look into a stranger's file finds, unless it takes minutes or most of the memory."""
    for name in ("onnx_ir", "onnxscript"):  # they log the names in the file as they are, and nothing to be mended
        logging.getLogger(name).setLevel(logging.CRITICAL)
    memory = max(_LEAST_MEMORY, free_memory() * 3 // 4)
    try:
        return run_within(look, lambda: None, _SECONDS, memory)
    except OverLimitError as error:
        raise ModelContractError(
            f"{path}: looking into it {error}; take no file whose origin you do not know, or a smaller network"
        ) from error
    except MemoryError as error:
        raise ModelContractError(f"{path}: it needs more memory than there is; take a smaller network") from error


def _describe(checkpoint: Path) -> Checkpoint:
    try:
        _, described = load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    return described


def _report_threshold(done: Exported, described: Checkpoint, args: argparse.Namespace) -> None:
    """Say what the threshold in the file does, and on which pictures, or why there is none."""
    manifest, source = done.manifest, args.data or args.images
    if done.labelling is not None:
        sys.stdout.write(f"{source}: {done.labelling.sentence()}\n")
    if done.labelling is not None and described.threshold is None and args.data is None:
        sys.stderr.write("the threshold is too low if training saw these pictures: take others for --images then\n")
    if described.threshold not in (None, manifest.threshold):
        old, precision = f"{described.threshold:.8g}", manifest.export.precision
        sys.stderr.write(f"the checkpoint's threshold {old} does not hold in {precision}: replaced\n")
    if manifest.threshold is None and manifest.reject is not None:
        sys.stderr.write(
            f"no threshold: it takes --images in a folder per class, among them some of '{printable(manifest.reject)}' "
            "and of others\n"
        )


def _read_images(
    source: str, spec: PreprocessSpec, described: Checkpoint
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return pictures (M, H, W, C) and the index of each one's label (M,), -1 where no folder is named like one.

    More are read where the checkpoint lacks what is measured on them: statistics of theta, or the threshold.
    """
    files = open_source(source)
    if not isinstance(files, ImageFiles):
        raise InputError(f"{source}: --images takes pictures: a file, a folder or a pattern")
    paths = list(files.paths)
    label_of = {str(path): _label_of(path, files.root, described.labels) for path in paths}
    is_labelled = max(label_of.values(), default=-1) >= 0
    enough = described.theta is not None and (described.threshold is not None or not is_labelled)
    most = LEAST_REAL if enough else _MEASURED_IMAGES
    count = min(most, len(paths))
    chosen = list(ImageFiles([paths[index * len(paths) // count] for index in range(count)]))  # of every class some
    pictures, labels, errors = [], [], []
    for frame in chosen:
        if frame.image is not None:
            pictures.append(preprocess(frame.image, spec))
            labels.append(label_of[frame.source])
        elif frame.error is not None:
            errors.append(frame.error)
    if errors:
        log.warning("%d of %d pictures are left out, such as %s", len(errors), len(chosen), errors[0])
    if not pictures:
        raise InputError(f"{source}: none of the files can be read as a picture")
    return np.stack(pictures), np.array(labels, np.int64)


def _label_of(path: Path, root: Path | None, labels: Sequence[str]) -> int:
    """Return the index of the label that a folder between ``root`` and a picture is named like, -1 without one."""
    folders = path.relative_to(root).parts[:-1] if root is not None else ()
    return next((labels.index(name) for name in folders if name in labels), -1)


def _read_data(args: argparse.Namespace, spec: PreprocessSpec) -> TestSet:
    """Return the test split of a data set, and pictures of its training split to calibrate with."""
    try:
        evaluation = import_module("stn_training.evaluation.accuracy")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"--data needs package '{error.name}', which is not installed: {PIP} install 'stn-edge[train]'"
        ) from error
    _, described = load_checkpoint(args.checkpoint)
    given = evaluation.FileOptions(group=args.group, class_names=args.class_names)
    load = partial(
        evaluation.load_test_images,
        data=args.data,
        distort=args.distort,
        spec=spec,
        data_dir=args.data_dir,
        files=evaluation.files_of(args.checkpoint, args.data, given),
        reject=described.reject,
        typefaces=args.typefaces,
    )
    test = load(split="test", seed=0)
    unknown = [name for name in test.classes if name not in described.labels]
    if unknown:
        raise InputError(f"{args.data}: class '{unknown[0]}' is not one of the checkpoint's")
    train = load(split="train", seed=1, most=_CALIBRATION_IMAGES)
    labels = np.array([described.labels.index(name) for name in test.classes])[test.labels.numpy()]
    source = f"{args.data}{f', {args.distort}' if args.distort else ''}"
    return TestSet(test.images.numpy(), labels, train.images.numpy(), source, test.end)
