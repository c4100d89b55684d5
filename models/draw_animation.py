"""Draw an animation of a model's answers: a card with a handwritten digit is carried through a photograph.

The digit is one of ``draw_samples``, and each frame is answered by itself, as ``stn run`` would. Needs
``stn-edge[headless,train]``: Pillow writes the GIF.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from draw_samples import CORNERS, Scene, photograph
from stn_runtime import Classifier, Frame, InputError, Source, classify
from stn_runtime.views.overlay import Annotator

SIZE = (360, 270)  # width and height of a frame, pixels
SECONDS, RATE = 6, 10
COLOURS = 64
CARD = Scene("7.png", "7_hooked", "marker", "paper", (240, 240), 0.62, 0.12, 0)
SEED = 3
Picture = NDArray[np.uint8]


class Carried(Source):
    """Frames of a card that moves through a photograph, turning, nearer and farther; the last leads to the first.

    They bear no noise, which would make the GIF several times larger.

    Args:
        behind: The photograph, RGB.
    """

    timed, streams = True, 1

    def __init__(self, behind: Picture) -> None:
        width, height = SIZE
        scale = max(width / behind.shape[1], height / behind.shape[0])
        large = cv2.resize(behind, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._behind = large[:height, :width]
        self._card = np.round(photograph(CARD, np.random.default_rng(SEED)) * 255).astype(np.uint8)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames."""
        for number in range(SECONDS * RATE):
            picture = self._carried(2 * math.pi * number / (SECONDS * RATE))
            yield Frame("card", number, number / RATE, np.round(picture).astype(np.uint8))

    def ready(self, timeout: float) -> bool:
        """Return that the next frame is there."""
        return True

    def _carried(self, turn: float) -> NDArray[np.float64]:
        """Return the frame at a point of the way, 0 to 2 pi."""
        width, height = SIZE
        angle = 0.6 * math.sin(turn)
        half = height * (0.27 + 0.08 * math.cos(turn))
        centre = (width * (0.5 + 0.18 * math.sin(turn)), height * (0.5 + 0.1 * math.sin(2 * turn)))
        rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
        seen = (CORNERS * half) @ rotation + centre
        side = self._card.shape[0]
        lens = cv2.getPerspectiveTransform((CORNERS + 1) * side / 2, seen.astype(np.float32))
        laid = cv2.warpPerspective(self._card, lens, SIZE, flags=cv2.INTER_AREA)
        cover = cv2.warpPerspective(np.ones((side, side), np.float64), lens, SIZE)
        shadow = np.roll(cv2.GaussianBlur(cover, (0, 0), 6), (5, 3), axis=(0, 1))
        behind = self._behind * (1 - 0.4 * shadow[..., None])
        return np.asarray(behind * (1 - cover[..., None]) + laid * cover[..., None], np.float64)


def animate(model: str, behind: Picture, path: Path) -> None:
    """Write the animation of a model's answers.

    Args:
        model: A released model's name, or an .onnx file.
        behind: Photograph through which the card is carried, (H, W, 3) RGB.
        path: The GIF to write.
    """
    source, classifier, annotator = Carried(behind), Classifier(model), Annotator()
    records = classify(Carried(behind), classifier)
    drawn = [annotator.draw(frame, record) for frame, record in zip(source, records, strict=True)]
    # One palette for all frames, without dithering, which would flicker and double the file.
    palette = Image.fromarray(np.vstack(drawn[:: len(drawn) // 6])).quantize(COLOURS)
    frames = [Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE) for picture in drawn]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000 // RATE, loop=0, optimize=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the animation; 0 = written, 2 = the model or photograph cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photograph", type=Path, help="through which the card is carried")
    parser.add_argument("--model", default="digits", help="a released model's name, or a file (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("digits.gif"), help="the GIF (default: %(default)s)")
    args = parser.parse_args(argv)
    behind = cv2.imread(str(args.photograph))
    if behind is None:
        sys.stderr.write(f"{args.photograph}: cannot be read as a picture; name a .jpg or .png file\n")
        return 2
    try:
        animate(args.model, np.asarray(behind[:, :, ::-1], np.uint8), args.output)
    except (InputError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stderr.write(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
