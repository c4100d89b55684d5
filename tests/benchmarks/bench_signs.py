"""Traffic signs that come nearer in a video: what the fused and the split form of one model read at each size.

    python -m tests.benchmarks.bench_signs --data-dir DIR

Test signs of GTSRB (`DIR/GTSRB/Final_Test`) of at least 80 pixels are pasted into two photographs that drift, and grow
from a quarter to nine tenths of the frame of 480 x 480 pixels. `stn run` reads the video with each form. Prints a
Markdown table, and writes some frames with the outline of what is sampled (--pictures FILE).
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from stn_export.forms.splitting import split_graph
from stn_runtime.model.manifest import METADATA_KEY
from stn_runtime.model.zoo import find_model

SIDE = 480
SHARES = tuple(np.linspace(0.25, 0.9, 14))
LEAST = 80  # pixels of a sign's picture, so that there is more to see than the network's input of 48 shows
Frame = NDArray[np.uint8]


def signs(folder: Path, count: int) -> list[tuple[Path, int]]:
    """Return large test pictures and their classes, evenly chosen."""
    with (folder / "GT-final_test.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    places = {path.name: path for path in folder.rglob("*.ppm")}
    large = [(places[row["Filename"]], int(row["ClassId"])) for row in rows if int(row["Width"]) >= LEAST]
    return large[:: max(1, len(large) // count)][:count]


def frames(sign: Frame, scene: Frame, random: np.random.Generator) -> list[Frame]:
    """Return a sign that comes nearer, somewhere in front of a scene that drifts."""
    start, aim = random.uniform(0.3, 0.7, 2), random.uniform(0.45, 0.55, 2)
    found = []
    for number, share in enumerate(SHARES):
        top, left = (int(room * number / len(SHARES)) for room in (scene.shape[0] - SIDE, scene.shape[1] - SIDE))
        frame = scene[top : top + SIDE, left : left + SIDE].copy()
        side = round(SIDE * share)
        middle = start + (aim - start) * number / (len(SHARES) - 1)
        y, x = np.clip((SIDE * middle - side / 2).astype(int), 0, SIDE - side)
        method = cv2.INTER_AREA if side < sign.shape[0] else cv2.INTER_CUBIC
        frame[y : y + side, x : x + side] = cv2.resize(sign, (side, side), interpolation=method)
        noisy = frame + random.normal(0, 3, frame.shape)
        found.append(np.rint(noisy.clip(0, 255)).astype(np.uint8))
    return found


def write_split(fused: Path, path: Path) -> None:
    """Write the split form of a fused file, without the proof that ``stn export`` gives."""
    model = onnx.load(fused)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            manifest = json.loads(entry.value)
            manifest["export"]["form"] = "split"
            entry.value = json.dumps(manifest)
    onnx.save(split_graph(model, 18), path)


def read(video: Path, model: Path, output: Path) -> list[dict[str, Any]]:
    """Return the records of a video."""
    command = [sys.executable, "-m", "stn_runtime", "run", str(video), "--model", str(model), "--output", str(output)]
    subprocess.run([*command, "--conf", "0"], check=True, capture_output=True)
    return [json.loads(line) for line in output.read_text().splitlines()]


def row(share: int, truth: Sequence[str], read_by: Sequence[list[dict[str, Any]]]) -> str:
    """Return a row of the table: of the frames at one size, the right labels, percent, and those without one."""
    cells = []
    for records in read_by:
        found = [records[first + share]["label"] for first in range(0, len(records), len(SHARES))]
        right = 100 * np.mean([label == true for label, true in zip(found, truth, strict=True)])
        nothing = 100 * np.mean([label is None for label in found])
        cells.append(f"{right:.1f} ({nothing:.0f})")
    return f"| {SHARES[share]:.2f} | {48 * SHARES[share]:.0f} | {' | '.join(cells)} |\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds GTSRB/Final_Test")
    parser.add_argument("--count", type=int, default=300, help="signs (default: %(default)s)")
    parser.add_argument("--pictures", type=Path, help="where to write some frames")
    args = parser.parse_args()
    random = np.random.default_rng(0)
    scenes = [cv2.resize(scene[..., ::-1], (900, 600)) for scene in load_sample_images().images]
    chosen = signs(args.data_dir / "GTSRB/Final_Test", args.count)
    fused = find_model("traffic-signs")
    with tempfile.TemporaryDirectory() as place:
        video, split = Path(place) / "signs.avi", Path(place) / "split.onnx"
        write_split(fused, split)
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 15, (SIDE, SIDE))
        shown = []
        for number, (path, _) in enumerate(chosen):
            made = frames(cv2.imread(str(path)), scenes[number % len(scenes)], random)
            shown += made if number % (len(chosen) // 3) == 0 else []
            for frame in made:
                writer.write(frame)
        writer.release()
        read_by = [read(video, model, Path(place) / f"{model.stem}.jsonl") for model in (fused, split)]
    labels = json.loads(next(p.value for p in onnx.load(fused).metadata_props if p.key == METADATA_KEY))["labels"]
    truth = [labels[sign] for _, sign in chosen]
    sys.stdout.write(
        f"{len(chosen)} test signs; right labels in per cent, in brackets those named `nothing`\n\n"
        "| sign in the frame | pixels in the input | fused | split |\n| ---: | ---: | ---: | ---: |\n"
    )
    sys.stdout.writelines(row(share, truth, read_by) for share in range(len(SHARES)))
    if args.pictures is not None:
        outlines = [
            records["outline"]
            for number in range(0, len(chosen), len(chosen) // 3)
            for records in read_by[1][number * len(SHARES) : (number + 1) * len(SHARES)]
        ]
        for frame, outline in zip(shown, outlines, strict=True):
            cv2.polylines(frame, [np.rint(outline[0]).astype(np.int32)], True, (0, 255, 255), 3, cv2.LINE_AA)
        strips = [np.hstack(shown[first : first + len(SHARES) : 3]) for first in range(0, len(shown), len(SHARES))]
        cv2.imwrite(str(args.pictures), cv2.resize(np.vstack(strips), None, fx=0.4, fy=0.4))


if __name__ == "__main__":
    main()
