"""The command bench: how fast a model runs on this machine."""

import argparse
import dataclasses
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tqdm import tqdm

from ..arguments import MOST_THREADS, above_zero, whole
from ..commands.tuning import measure_setups
from ..errors import InputError
from ..images.opencv import cv2
from ..images.preprocessing import Image
from ..images.reading import read_image
from ..images.writing import write_image
from ..machine.processor import throttling
from ..model.classifier import Classifier
from ..model.zoo import DEFAULT_MODEL
from .cold_start import ColdStart, measure_cold_start
from .comparison import Agreement, Ratio, agreement, golden_pictures, time_in_turns
from .host import Host, this_host
from .report import Comparison, Model, Picture, Report
from .timing import decode, infer_call, label, time_call, time_stages

_HEIGHT, _WIDTH = 1080, 1920
_COLD_STARTS = 5
_MOST_PICTURES, _MOST_SECONDS = 1024, 3600


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``stn bench`` takes."""
    parser.add_argument(
        "model", nargs="?", default=DEFAULT_MODEL, help="released model or .onnx file (default: %(default)s)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="picture to classify (default: a generated one)")
    parser.add_argument(
        "--batch",
        type=whole(_MOST_PICTURES),
        nargs="+",
        default=[1, 4, 16],
        metavar="N",
        help="batch sizes (default: 1 4 16)",
    )
    parser.add_argument("--compare", metavar="OTHER", help="measure this model too, in turns with the first")
    parser.add_argument(
        "--threads", type=whole(MOST_THREADS), metavar="N", help="onnxruntime threads (default: 1 per usable CPU)"
    )
    parser.add_argument(
        "--providers", nargs="+", metavar="EP", help="execution providers to use; it is an error if one is missing"
    )
    parser.add_argument(
        "--seconds",
        type=above_zero(_MOST_SECONDS),
        default=2.0,
        metavar="S",
        help="duration of each measurement (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON instead of a table")


def bench(args: argparse.Namespace) -> int:
    """Measure a model, alone or against another, and print the report."""
    with _picture(args.picture) as picture:
        report = _measure(args, picture)
    for warning in report.warnings:
        sys.stderr.write(f"{warning}\n")
    if args.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(report), indent=2, allow_nan=False) + "\n")
    else:
        sys.stdout.write(report.table() + "\n")
    return 0


def _measure(args: argparse.Namespace, picture: Path) -> Report:
    host = this_host(_engines())  # first: what is measured here is not the load of others
    classifier = _opened(args.model, args)
    other = None if args.compare is None else _opened(args.compare, args)
    decoded = decode(picture, classifier)
    height, width = decoded.size
    batches = list(dict.fromkeys(args.batch))
    chosen = args.threads is not None or args.providers is not None
    tuning = None if chosen else measure_setups(classifier.path, None)
    with tqdm(total=2 + len(batches) + (other is not None), leave=False, disable=None) as progress:

        def step(name: str) -> None:
            progress.set_description(name)
            progress.update()

        step("cold start")
        cold_start = _median_cold_start(picture, classifier, args)
        step("stages")
        stages = time_stages(picture, classifier, args.seconds)
        latencies = {}
        for batch in batches:
            step(f"batch {batch}")
            with _room_for(batch):
                latencies[batch] = time_call(infer_call(decoded, classifier, batch), args.seconds, batch)
        comparison = None
        if other is not None:
            step("comparison")
            comparison = Comparison(
                _model(args.compare, other),
                _ratios(picture, classifier, other, batches, args.seconds),
                _agreement(picture, classifier, other),
            )
    return Report(
        _model(args.model, classifier),
        host,
        args.threads or host.usable_cpus,
        classifier.provider,
        Picture(
            None if args.picture is None else str(picture),
            picture.stat().st_size,
            width,
            height,
            (decoded.image.shape[1], decoded.image.shape[0]),
        ),
        stages,
        latencies,
        cold_start,
        comparison,
        tuning,
        _warnings(host),
    )


def _opened(model: str, args: argparse.Namespace) -> Classifier:
    return Classifier(model, threads=args.threads, providers=args.providers)


def _median_cold_start(picture: Path, classifier: Classifier, args: argparse.Namespace) -> ColdStart:
    starts = [
        measure_cold_start(classifier.path, picture, threads=args.threads, providers=args.providers)
        for _ in range(_COLD_STARTS)
    ]
    return sorted(starts, key=lambda start: start.whole_ms)[_COLD_STARTS // 2]


def _ratios(
    picture: Path, first: Classifier, other: Classifier, batches: Sequence[int], seconds: float
) -> dict[str, Ratio]:
    ratios = {"whole": time_in_turns(lambda: label(picture, first), lambda: label(picture, other), seconds)}
    for batch in batches:
        ours, theirs = (infer_call(decode(picture, each), each, batch) for each in (first, other))
        with _room_for(batch):
            ratios[f"infer x {batch}"] = time_in_turns(ours, theirs, seconds)
    return ratios


def _agreement(picture: Path, first: Classifier, other: Classifier) -> Agreement | None:
    if first.manifest.labels != other.manifest.labels:
        return None
    return agreement(first, other, [read_image(picture), *golden_pictures([first, other])])


@contextmanager
def _room_for(batch: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--batch {batch}: the network cannot be run so ({reason}); give a smaller one") from error


def _model(name: str, classifier: Classifier) -> Model:
    data, export = classifier.path.read_bytes(), classifier.manifest.export
    digest = hashlib.sha256(data).hexdigest()
    return Model(name, digest, len(data), export.form, export.precision, export.opset, export.target)


def _warnings(host: Host) -> tuple[str, ...]:
    warnings = []
    if host.is_busy:
        warnings.append(
            f"load {host.load} on {host.cpus} CPUs before the measurement: something else runs here, "
            "the figures may be too slow"
        )
    slowed = throttling()
    return (*warnings, slowed) if slowed else tuple(warnings)


@contextmanager
def _picture(given: Path | None) -> Iterator[Path]:
    """Yield the file to classify; one that is made is gone afterwards."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.jpg"
        write_image(path, make_picture())
        yield path


def make_picture() -> Image:
    """Return 1920 x 1080 RGB pixels with the statistics of a photograph: as much contrast at every scale, and noise."""
    random = np.random.default_rng(0)
    picture = random.normal(128, 2, (_HEIGHT, _WIDTH, 3)).astype(np.float32)
    for octave in range(7):
        rows, columns = 5 * 2**octave, 9 * 2**octave
        cells = random.normal(0, 12, (rows, columns, 1)) + random.normal(0, 4, (rows, columns, 3))
        picture += cv2.resize(cells.astype(np.float32), (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    rounded: Image = np.rint(picture.clip(0, 255)).astype(np.uint8)
    return rounded


def _engines() -> dict[str, str]:
    return {"onnxruntime": ort.__version__, "OpenCV": cv2.__version__, "numpy": np.__version__}
