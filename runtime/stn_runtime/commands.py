"""The commands of a device: run, verify, models."""

import argparse
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

from .classifier import Classifier
from .errors import InputError, MissingDependencyError
from .golden import replay
from .manifest import Manifest
from .network import Network
from .pipeline import run as run_pipeline
from .records import JsonLines, Readable, RecordWriter, open_results, writer_for
from .session import open_session, read_manifest
from .sinks import View, Window, open_saver
from .sources import ImageFiles, Source, Video, open_source
from .zoo import find_model, released_models


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn run`` takes."""
    parser.add_argument("source", help="camera number or /dev path, picture, folder, glob, video, or http/rtsp address")
    parser.add_argument("-m", "--model", default="digits", help="released model or .onnx file (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, help="write records to this .jsonl or .csv file")
    parser.add_argument("--resume", action="store_true", help="go on behind what --output holds already")
    parser.add_argument(
        "--save", type=Path, metavar="PATH", help="save annotated pictures (folder) or video (.mp4, .avi)"
    )
    parser.add_argument("--show", action="store_true", help="open a window: q or Esc ends, space pauses, s snapshot")
    parser.add_argument("--topk", type=_positive, default=5, metavar="K", help="labels a record lists (default: 5)")
    parser.add_argument("--conf", type=_share, default=0.0, metavar="P", help="below this probability a label is null")
    parser.add_argument(
        "--full-decode", action="store_true", help="decode JPEGs at full size, whatever the network needs"
    )
    parser.add_argument("--threads", type=_positive, metavar="N", help="of onnxruntime (default: one a usable CPU)")
    parser.add_argument("--providers", nargs="+", metavar="EP", help="execution providers that must be there")


def run(args: argparse.Namespace) -> int:
    """Classify every frame of a source."""
    if args.output is not None:
        writer_for(args.output)
    elif args.resume:
        raise InputError("--resume goes on with a results file: name it with --output")
    with ExitStack() as stack:
        source = open_source(args.source)
        stack.callback(source.close)
        classifier = Classifier(
            args.model, threads=args.threads, providers=args.providers, topk=args.topk, live=source.live
        )
        views = _views(args, source)
        is_split = classifier.manifest.export.form == "split"  # it samples the frame itself
        if isinstance(source, ImageFiles) and not (views or is_split or args.full_decode):
            source.reduce_for(classifier.manifest.preprocess)
        for view in views:
            stack.callback(view.close)
        writer = _writer(args, source, stack)  # last: a typing error must not empty yesterday's results
        summary = run_pipeline(source, classifier, writer, views, args.conf)
    place = f", annotated in {args.save}" if args.save else ""
    sys.stderr.write(f"{summary.frames} frames, {summary.failed} failed{place}\n")
    if summary.interrupted:
        return 130
    return 1 if summary.failed else 0


def _writer(args: argparse.Namespace, source: Source, stack: ExitStack) -> RecordWriter:
    if args.output is None:
        return Readable(sys.stdout) if sys.stdout.isatty() else JsonLines(sys.stdout)
    writer, stream, done = open_results(args.output, args.resume)
    stack.enter_context(stream)
    if args.resume:
        sys.stderr.write(f"{args.output}: {done.records} records are there already\n")
        if isinstance(source, ImageFiles | Video):
            source.skip(done)
    return writer


def _views(args: argparse.Namespace, source: Source) -> list[View]:
    is_pictures = isinstance(source, ImageFiles)
    views: list[View] = []
    if args.save:
        views.append(open_saver(args.save, args.source, not is_pictures, source.rate))
    if args.show:
        views.append(Window(wait=is_pictures, rate=None if source.live else source.rate))
    return views


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn verify`` takes."""
    parser.add_argument("model", help="released model or .onnx file")
    parser.add_argument(
        "--checkpoint", type=Path, help="compare with this checkpoint in PyTorch, beyond golden vectors"
    )
    parser.add_argument("--providers", nargs="+", metavar="EP", help="execution providers that must be there")


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


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got '{text}'")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, got '{text}'")
    return value
