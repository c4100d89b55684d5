"""Draw the course of a run: its before/after pictures of several epochs as a strip, and all of them as a GIF.

python training/draw_film.py runs/mine --epochs 5 10 20 40 49 --output film
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

_LABEL_WIDTH, _LABEL_SIZE = 110, 20
_MILLISECONDS = 700
_COLOURS = 128


def labelled(path: Path, columns: int) -> Image.Image:
    """Return the picture of an epoch, its first ``columns`` of twelve, with the epoch's number to the left."""
    with Image.open(path) as picture:
        shown = picture.convert("RGB").crop((0, 0, picture.width * columns // 12, picture.height))
    frame = Image.new("RGB", (_LABEL_WIDTH + shown.width, shown.height), "white")
    frame.paste(shown, (_LABEL_WIDTH, 0))
    text = f"epoch {int(path.stem.removeprefix('epoch_'))}"
    ImageDraw.Draw(frame).text(
        (10, shown.height // 2 - _LABEL_SIZE // 2), text, "black", ImageFont.load_default(_LABEL_SIZE)
    )
    return frame


def draw(pictures: Sequence[Path], epochs: Sequence[int], columns: int, output: Path) -> None:
    """Write ``output`` with .png, a row for each of ``epochs``, and with .gif, every picture in turn."""
    frames = {int(path.stem.removeprefix("epoch_")): labelled(path, columns) for path in pictures}
    missing = [epoch for epoch in epochs if epoch not in frames]
    if missing:
        raise ValueError(f"there is no picture of epoch {missing[0]}; there are {', '.join(map(str, frames))}")
    rows = [frames[epoch] for epoch in epochs]
    strip = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    top = 0
    for row in rows:
        strip.paste(row, (0, top))
        top += row.height
    strip.save(output.with_suffix(".png"), optimize=True)
    palette = strip.quantize(_COLOURS)
    film = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames.values()]
    film[0].save(
        output.with_suffix(".gif"), save_all=True, append_images=film[1:], duration=_MILLISECONDS, loop=0, optimize=True
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write strip and film; 0 = written, 2 = the run has no such pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of 'stn train'")
    parser.add_argument("--epochs", type=int, nargs="+", required=True, help="rows of the strip")
    parser.add_argument("--columns", type=int, default=8, choices=range(1, 13), help="pictures (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("film"), help="name of both files (default: %(default)s)")
    args = parser.parse_args(argv)
    pictures = sorted((args.run / "pictures").glob("epoch_*.png"))
    try:
        draw(pictures, args.epochs, args.columns, args.output)
    except (ValueError, OSError, UnidentifiedImageError) as error:
        sys.stderr.write(f"{args.run}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
