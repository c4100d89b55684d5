"""What the split form gains on small objects in large frames: it samples the frame, not the network's small input.

``python -m tests.benchmarks.bench_split --data-dir DIR`` prints a Markdown table: accuracy of the fused and the split
form of a model on test digits of MNIST, each drawn smaller and smaller into a frame of 640 x 640 pixels.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import MNIST
from tqdm import tqdm

from stn_runtime import Classifier

FRAME = 640
SHARES = (0.45, 0.35, 0.25, 0.2, 0.15)
_BATCH = 50


def frames(digits: NDArray[np.uint8], share: float, random: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Return dark digits, ``share`` of the frame high, anywhere in its middle half on a light, uneven, noisy ground."""
    found = []
    side = round(FRAME * share)
    for digit in digits:
        ground = cv2.resize(random.uniform(170, 230, (4, 4)).astype(np.float32), (FRAME, FRAME))
        ink = cv2.resize(digit, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
        left, top = random.integers((FRAME - side) // 4, (FRAME - side) * 3 // 4, 2, endpoint=True)
        ground[top : top + side, left : left + side] *= 1 - 0.85 * ink
        noisy = ground + random.normal(0, 4, ground.shape)
        found.append(np.rint(noisy.clip(0, 255)).astype(np.uint8))
    return found


def accuracy(classifier: Classifier, pictures: list[NDArray[np.uint8]], labels: NDArray[np.int64]) -> float:
    """Return the share of right labels, percent."""
    found = [
        prediction.label
        for start in range(0, len(pictures), _BATCH)
        for prediction in classifier.predict(pictures[start : start + _BATCH])
    ]
    return 100 * float(np.mean([label == str(true) for label, true in zip(found, labels, strict=True)]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="where torchvision keeps MNIST")
    parser.add_argument("--fused", default="digits", help="a released model or file (default: %(default)s)")
    parser.add_argument("--split", default="digits-split", help="the same model, split (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1000, help="test digits (default: %(default)s)")
    args = parser.parse_args()
    data = MNIST(args.data_dir, train=False)
    digits, labels = data.data[: args.count].numpy(), data.targets[: args.count].numpy()
    fused, split = Classifier(args.fused), Classifier(args.split)
    size = fused.manifest.preprocess.width
    sys.stdout.write("| digit in the frame | in the network's input | fused | split |\n| --- | --- | --- | --- |\n")
    for share in tqdm(SHARES, leave=False, disable=None):
        pictures = frames(digits, share, np.random.default_rng(0))
        one, other = (accuracy(classifier, pictures, labels) for classifier in (fused, split))
        sys.stdout.write(f"| {share * FRAME:.0f} px | {share * size:.0f} px | {one:.1f} % | {other:.1f} % |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
