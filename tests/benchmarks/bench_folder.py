"""A folder of 1080p JPEGs: the pipeline of ``stn run`` against the loop that one writes by hand.

``python -m tests.benchmarks.bench_folder`` prints a Markdown table: images a second, medians of passes in turns, and
how often the labels agree with decoding at full size.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from tqdm import tqdm

from stn_runtime import Classifier
from stn_runtime.images.reading import read_image
from stn_runtime.model.zoo import find_model
from stn_runtime.pipeline.pipeline import classify
from stn_runtime.records.writers import JsonLines
from stn_runtime.sources.image_files import ImageFiles

HEIGHT, WIDTH = 1080, 1920
SAMPLES = Path(__file__).parents[2] / "models" / "stn_zoo" / "samples"


def make_pictures(folder: Path, count: int, quality: int = 85) -> list[Path]:
    """Write photographs of digits: the samples, enlarged, moved and lit differently, with the noise of a sensor."""
    random = np.random.default_rng(0)
    samples = [read_image(path) for path in sorted(SAMPLES.iterdir()) if path.suffix in (".jpg", ".png")]
    paths = []
    for index in tqdm(range(count), "making pictures", leave=False, disable=None):
        sample = samples[index % len(samples)]
        colour = sample if sample.ndim == 3 else cv2.cvtColor(sample, cv2.COLOR_GRAY2RGB)
        scale = HEIGHT / min(colour.shape[:2]) * random.uniform(0.95, 1.1)
        matrix = np.array([[scale, 0, (WIDTH - scale * colour.shape[1]) / 2], [0, scale, 0]], np.float32)
        matrix[:, 2] += random.uniform(-20, 20, 2)
        picture = cv2.warpAffine(colour, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        noisy = picture * random.uniform(0.85, 1.1) + random.normal(0, 3, picture.shape)
        paths.append(folder / f"{index:05}.jpg")
        stored = cv2.cvtColor(np.rint(noisy.clip(0, 255)).astype(np.uint8), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(paths[-1]), stored, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return paths


def by_hand(paths: list[Path], model: Path, size: int) -> list[str]:
    """Classify as people do: read, crop, resize, convert, run, one picture after the other."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    labels = []
    for path in paths:
        picture = cv2.imread(str(path))
        left = (WIDTH - HEIGHT) // 2
        small = cv2.resize(picture[:, left : left + HEIGHT], (size, size), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        probabilities = session.run(["probabilities"], {"image": grey[None, :, :, None]})[0]
        labels.append(str(int(probabilities[0].argmax())))
    return labels


def piped(paths: list[Path], classifier: Classifier, full: bool) -> list[str]:
    """Classify as ``stn run`` does."""
    source = ImageFiles(paths)
    if not full:
        source.reduce_for(classifier.manifest.preprocess)
    written = io.StringIO()
    writer = JsonLines(written)
    for record in classify(source, classifier):
        writer.write(record)
    return [line.split('"label": "')[1][0] for line in written.getvalue().splitlines()]


def decoded(paths: list[Path], classifier: Classifier) -> list[str]:
    """Decode as ``stn run`` does, and nothing else."""
    source = ImageFiles(paths)
    source.reduce_for(classifier.manifest.preprocess)
    for _ in source:
        pass
    return []


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="pictures (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=5, help="of each contender (default: %(default)s)")
    parser.add_argument("--quality", type=int, default=85, help="of the JPEGs (default: %(default)s)")
    args = parser.parse_args()
    classifier, model = Classifier("digits", spin=False), find_model("digits")  # as the command opens it
    with tempfile.TemporaryDirectory() as folder:
        paths = make_pictures(Path(folder), args.count, args.quality)
        size = classifier.manifest.preprocess.width
        ways: dict[str, Callable[[], list[str]]] = {
            "by hand": lambda: by_hand(paths, model, size),
            "stn run --full-decode": lambda: piped(paths, classifier, full=True),
            "stn run": lambda: piped(paths, classifier, full=False),
            "its decoding alone": lambda: decoded(paths, classifier),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        labels: dict[str, list[str]] = {}
        for _ in range(args.passes):
            for name, way in ways.items():
                started = time.perf_counter()
                labels[name] = way()
                times[name].append(time.perf_counter() - started)
    rates = {name: args.count / statistics.median(taken) for name, taken in times.items()}
    sys.stdout.write(
        "| | images a second | faster than by hand | labels as at full size |\n| --- | ---: | ---: | ---: |\n"
    )
    for name, rate in rates.items():
        same = [one == other for one, other in zip(labels[name], labels["stn run --full-decode"], strict=False)]
        agree = f"{100 * float(np.mean(same)):.1f} %" if same else ""
        sys.stdout.write(f"| {name} | {rate:.0f} | {rate / rates['by hand']:.2f}x | {agree} |\n")


if __name__ == "__main__":
    main()
