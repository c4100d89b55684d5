"""Draw a model's answers to the pictures of a folder as one sheet; of the frames of a track, a film strip.

Each picture is answered by itself and drawn on as ``stn run --save`` does. ``--plates N`` draws house plates instead of
reading a folder, which needs ``stn-edge[headless,train]``.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stn_runtime import Classifier, Frame, InputError, Record, open_source
from stn_runtime.views.overlay import Annotator

Picture = NDArray[np.uint8]
_GAP = 6


def main() -> None:
    """Draw the sheet that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a released model, or a file")
    parser.add_argument("pictures", nargs="?", help="folder or pattern of pictures")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture to write")
    parser.add_argument("--plates", type=int, metavar="N", help="draw N house plates that no training saw")
    parser.add_argument("--typefaces", type=Path, default=Path("/usr/share/fonts"), help="for --plates")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth picture")
    parser.add_argument("--columns", type=int, default=6, help="pictures side by side (default: %(default)s)")
    parser.add_argument("--side", type=int, default=200, help="longer side of each, pixels (default: %(default)s)")
    args = parser.parse_args()
    if (args.plates is None) == (args.pictures is None):
        parser.error("give a folder of pictures, or --plates N")
    frames = list(_plates(args.plates, args.typefaces) if args.plates else open_source(args.pictures))[:: args.every]
    classifier = Classifier(args.model)
    tiles = [_fitted(_answered(frame, classifier), args.side) for frame in frames if frame.image is not None]
    if not tiles:
        raise InputError(f"{args.pictures}: none of it can be read as a picture")
    cv2.imwrite(str(args.output), _sheet(tiles, args.columns)[..., ::-1])
    sys.stdout.write(f"{args.output}: {len(tiles)} answers\n")


def _plates(count: int, typefaces: Path) -> Iterator[Frame]:
    """Yield house plates in typefaces that are kept from training."""
    from stn_training.numbers.plates import draw_plate, faces_of

    faces = [str(path) for path in faces_of(typefaces, "test")]
    for number in range(count):
        yield Frame(f"plate {number}", number, None, draw_plate((77, number), faces)[0])


def _answered(frame: Frame, classifier: Classifier) -> Picture:
    """Return the frame's picture with its answer drawn on it."""
    prediction, manifest = classifier.predict(frame.image), classifier.manifest
    is_sure = prediction.confidence >= (manifest.threshold or 0)
    record = Record(frame.source, 0, None, prediction, sure=is_sure, rejected=manifest.rejects(prediction.label))
    return Annotator().draw(frame, record)


def _fitted(picture: Picture, side: int) -> Picture:
    """Return a picture that fits into a square tile."""
    scale = side / max(picture.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how)
    tile = np.full((side, side, 3), 255, np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small
    return tile


def _sheet(tiles: list[Picture], columns: int) -> Picture:
    side = len(tiles[0])
    rows = -(-len(tiles) // columns)
    step = side + _GAP
    sheet = np.full((rows * step - _GAP, min(columns, len(tiles)) * step - _GAP, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * step, number % columns * step
        sheet[top : top + side, left : left + side] = tile
    return sheet


if __name__ == "__main__":
    main()
