"""The command anchors."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from stn_runtime import InputError
from stn_runtime.errors import printable
from stn_runtime.machine.filesystem import make_folder, write_whole

from ..commands.options import seed
from ..data.listing import names_in
from ..tables import aligned, save_rows
from .annotations import Annotations, read_annotations
from .clusters import METRICS, Clusters, cluster_boxes, find_elbow
from .drawing import save_anchors, save_classes, save_elbow, save_samples

log = logging.getLogger(__name__)

_CLASSES_PRINTED = 10
_MOST_ANCHORS = 50
_DEFAULT = (3, 4, 5, 6)


@dataclass(frozen=True)
class _ClassRow:
    name: str
    boxes: int
    share: float
    mean_width: float
    mean_height: float


@dataclass(frozen=True)
class _AnchorRow:
    metric: str
    count: int
    width: float
    height: float
    width_pixels: float
    height_pixels: float
    share: float
    mean_iou: float


def add_anchors_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``stn anchors``."""
    parser.add_argument(
        "annotations",
        type=Path,
        help="COCO's JSON, a folder of YOLO's .txt files, or lines of id, height, width, bbox",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("anchors"), help="folder to write to (default: %(default)s)"
    )
    parser.add_argument(
        "--clusters", metavar="K,...", help="numbers of anchors to find (default: 3,4,5,6, as far as boxes differ)"
    )
    parser.add_argument(
        "--image-size",
        default="640",
        metavar="SIDE",
        help="side of the detector's input in pixels, or HEIGHTxWIDTH (default: 640)",
    )
    parser.add_argument("--images", type=Path, help="folder of the pictures, to draw boxes over some of them")
    parser.add_argument(
        "--class-names", metavar="FILE", help="text file with the name of each class, a line each, or coco"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the clusters' starting points (default: %(default)s)")


def anchors(args: argparse.Namespace) -> int:
    """Run ``stn anchors``."""
    asked_for = None if args.clusters is None else _counts(args.clusters)
    height, width = _size(args.image_size)
    if args.images is not None and not args.images.is_dir():
        raise InputError(f"--images {args.images}: is no folder")
    annotations = read_annotations(args.annotations, _class_names(args.class_names))
    make_folder(args.output)
    for line in _remarks(annotations):
        log.warning("%s", line)
    classes = _class_rows(annotations)
    sizes = annotations.boxes[:, 2:]
    counts = asked_for or _fitting(sizes)
    tried = [*range(1, min(counts)), *counts]
    steps = tqdm(
        [(metric, count) for metric in METRICS for count in reversed(tried)], "clusters", leave=False, disable=None
    )
    found = {(metric, count): cluster_boxes(sizes, count, metric, args.seed) for metric, count in steps}
    means = {metric: [found[metric, count].mean_iou for count in tried] for metric in METRICS}
    elbow = find_elbow(tried, means["iou"])
    asked = {(metric, count): found[metric, count] for metric in METRICS for count in counts}
    rows = [row for clusters in asked.values() for row in _anchor_rows(clusters, width, height)]
    save_rows(classes, args.output / "classes.csv")
    save_rows(rows, args.output / "anchors.csv")
    summary = {
        "source": annotations.source,
        "boxes": len(sizes),
        "image_size": [height, width],
        "classes": [asdict(row) for row in classes],
        "anchors": [asdict(row) for row in rows],
        "mean_iou": {metric: dict(zip(map(str, tried), values, strict=True)) for metric, values in means.items()},
        "elbow": elbow,
        "left_out": [asdict(fault) for fault in annotations.faults],
        "remarks": annotations.remarks,
    }
    write_whole(args.output / "anchors.json", json.dumps(summary, indent=1).encode())
    save_classes([row.boxes for row in classes], annotations.classes, args.output / "classes.png")
    save_anchors(sizes, asked, args.output / "anchors.png")
    save_elbow(tried, means, elbow, args.output / "elbow.png")
    if args.images is not None:
        _draw_samples(annotations, args.images, args.output / "samples.png")
    sys.stdout.write(_report(annotations, classes, asked, (height, width), elbow))
    log.info("tables and figures: %s", args.output)
    return 0


def _draw_samples(annotations: Annotations, folder: Path, path: Path) -> None:
    if not annotations.pictures:
        log.warning("%s: names no pictures, so none are drawn", annotations.source)
    elif not save_samples(annotations, folder, path):
        log.warning("%s: holds none of the pictures that were looked for, such as %s", folder, annotations.pictures[0])


def _remarks(annotations: Annotations) -> list[str]:
    left = sum(fault.count for fault in annotations.faults)
    lines = [f"{left:,} boxes are left out, {len(annotations.labels):,} are used"] if left else []
    lines += [f"left out: {fault.count:,} {fault.reason}; first: {fault.first}" for fault in annotations.faults]
    return [*lines, *annotations.remarks]


def _class_rows(annotations: Annotations) -> list[_ClassRow]:
    known = len(annotations.classes)
    counts = np.bincount(annotations.labels, minlength=known)
    sums = [np.bincount(annotations.labels, annotations.boxes[:, axis], known) for axis in (2, 3)]
    widths, heights = (total / np.maximum(counts, 1) for total in sums)
    return [
        _ClassRow(name, int(count), float(count / len(annotations.labels)), float(across), float(down))
        for name, count, across, down in zip(annotations.classes, counts, widths, heights, strict=True)
    ]


def _anchor_rows(clusters: Clusters, width: int, height: int) -> list[_AnchorRow]:
    return [
        _AnchorRow(
            clusters.metric,
            len(clusters.anchors),
            round(across, 5),
            round(down, 5),
            round(across * width, 1),
            round(down * height, 1),
            round(share, 4),
            round(clusters.mean_iou, 4),
        )
        for (across, down), share in zip(clusters.anchors.tolist(), clusters.shares.tolist(), strict=True)
    ]


def _report(
    annotations: Annotations,
    classes: Sequence[_ClassRow],
    found: dict[tuple[str, int], Clusters],
    size: tuple[int, int],
    elbow: int | None,
) -> str:
    height, width = size
    most = sorted(classes, key=lambda row: -row.boxes)
    cells = [(printable(row.name, 40), f"{row.boxes:,}", f"{row.share:.1%}") for row in most[:_CLASSES_PRINTED]]
    others = f"  and {len(most) - len(cells)} classes more, in classes.csv\n" if len(most) > len(cells) else ""
    table = [("k", "mean IoU", "plain k-means", f"anchors, width x height in pixels of {width} x {height}")]
    for (metric, count), clusters in found.items():
        if metric == "iou":
            sides = "  ".join(f"{across * width:.0f}x{down * height:.0f}" for across, down in clusters.anchors)
            table.append((str(count), f"{clusters.mean_iou:.3f}", f"{found['euclidean', count].mean_iou:.3f}", sides))
    text = aligned([("class", "boxes", "share"), *cells])
    bend = f"\nelbow: {elbow}; beyond it each further anchor gains less\n" if elbow is not None else ""
    return (
        f"{annotations.source}: {len(annotations.labels):,} boxes of {len(classes)} classes\n\n{text}\n{others}\n"
        f"{aligned(table)}\n{bend}"
    )


def _fitting(sizes: NDArray[np.float32]) -> list[int]:
    """Return the default numbers of anchors, none more than there are different sizes of boxes."""
    distinct = len(np.unique(sizes, axis=0))
    counts = [count for count in _DEFAULT if count <= distinct] or [distinct]
    if counts != list(_DEFAULT):
        log.warning("the boxes have %d different sizes: no more anchors than these", distinct)
    return counts


def _counts(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= _MOST_ANCHORS for part in parts):
        raise InputError(f"--clusters {text}: expected numbers from 1 to {_MOST_ANCHORS}, such as 3,4,5,6")
    return sorted(set(map(int, parts)))


def _size(text: str) -> tuple[int, int]:
    """Return height and width."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and 0 < int(side) <= 65535 for side in sides):
        raise InputError(f"--image-size {text}: expected a side in pixels, or HEIGHTxWIDTH, such as 640 or 384x640")
    return int(sides[0]), int(sides[-1])


def _class_names(text: str | None) -> Sequence[str]:
    if text is None:
        return ()
    if text == "coco":
        from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

        names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
        return [name for name in names if name not in ("__background__", "N/A")]
    return names_in(Path(text))
