"""Draw the sample pictures: handwritten digits as a phone camera would see them.

No data set is involved: each digit is a few pen strokes given below, written on a painted sheet, which is then turned,
seen in perspective, lit, blurred and made noisy. Colours are RGB in [0, 1] until the file is written.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[np.float64]
Colour = tuple[float, float, float]

SAMPLES = Path(__file__).parent / "stn_zoo" / "samples"
SEED = 20240607
CORNERS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float32)  # (x, y), clockwise from top left
# Catmull-Rom: four points in a row to the coefficients of 1, t, t^2, t^3 between the middle two.
SPLINE = np.array([(0, 2, 0, 0), (-1, 0, 1, 0), (2, -5, 4, -1), (-1, 3, -3, 1)]) / 2

# Points a pen passes through, as in SVG's `points`: x,y in hundredths of the digit's height, y down; "/" is a corner or
# a lifted pen.
STROKES = {
    "0_oval": "56,2 32,12 19,45 25,80 48,98 71,86 79,50 70,15 48,3",
    "0_narrow": "66,12 50,2 33,18 25,56 34,92 52,96 68,76 73,40 64,12 46,7",
    "1_slant": "60,2 54,35 47,70 42,98",
    "1_steep": "51,2 50,35 50,70 48,98",
    "2_plain": "22,24 34,6 56,3 72,16 69,38 50,64 22,94 / 22,94 50,92 82,94",
    "2_loop": "24,20 42,4 66,8 71,30 58,57 38,82 22,92 15,82 28,75 52,88 88,90",
    "3_round": "24,12 44,2 67,9 69,28 56,42 40,46 / 40,46 64,50 76,67 69,87 47,98 21,88",
    "3_loose": "28,10 50,3 70,14 65,33 43,47 / 43,47 70,56 74,78 54,96 22,92",
    "4_open": "32,4 25,34 22,56 / 22,56 50,55 86,50 / 70,8 66,50 62,98",
    "4_closed": "68,4 44,34 16,66 / 16,66 50,66 90,63 / 68,4 66,50 63,98",
    "5_capped": "34,5 30,26 27,45 / 27,45 46,38 68,46 76,66 67,88 45,98 21,90 / 34,5 54,6 80,3",
    "5_flowing": "78,4 58,7 38,8 / 38,8 33,28 29,46 / 29,46 52,42 70,55 70,77 52,94 22,95",
    "6_curl": "66,3 44,18 29,44 25,72 36,94 57,97 73,81 67,61 48,56 28,72",
    "6_straight": "56,2 38,29 26,60 29,87 48,98 69,88 71,68 56,57 38,64 28,80",
    "7_plain": "18,11 46,9 80,7 / 80,7 64,36 52,66 44,98",
    "7_hooked": "18,27 21,8 / 21,8 50,9 82,5 / 82,5 66,34 54,64 49,98",
    "8_round": "70,16 50,3 31,15 34,35 54,49 72,67 68,90 46,98 26,87 29,67 48,50 68,33 69,12",
    "8_slant": "76,12 58,3 40,14 40,34 54,50 64,70 54,94 34,97 22,82 32,62 54,46 72,28 73,8",
    "9_straight": "71,18 54,4 32,10 24,32 36,49 56,45 71,22 / 72,12 69,45 64,74 58,98",
    "9_curved": "69,16 49,4 29,17 28,41 47,51 65,38 71,14 / 72,8 75,45 67,82 46,98 25,90",
}


@dataclass(frozen=True)
class Ink:
    """What the pen leaves."""

    colour: Colour
    grain: float  # how much of the sheet's roughness shows through: 0 = paint, 1 = chalk


INKS = {
    "blue": Ink((0.09, 0.16, 0.50), 0.12),
    "marker": Ink((0.07, 0.07, 0.09), 0.05),
    "red": Ink((0.72, 0.10, 0.12), 0.12),
    "green": Ink((0.05, 0.36, 0.22), 0.12),
    "pencil": Ink((0.22, 0.22, 0.25), 0.45),
    "crayon": Ink((0.42, 0.12, 0.46), 0.70),
    "chalk": Ink((0.95, 0.95, 0.92), 0.70),
    "yellow_chalk": Ink((0.97, 0.90, 0.55), 0.75),
    "white": Ink((0.97, 0.96, 0.94), 0.08),
}


@dataclass(frozen=True)
class Scene:
    """One picture to take."""

    file: str  # the first letter is the digit
    strokes: str  # key of STROKES
    ink: str  # key of INKS
    surface: str  # key of SURFACES
    size: tuple[int, int]  # width and height, pixels
    height: float  # of the digit before it is turned, as a share of the picture's shorter side
    pen: float  # width of the stroke, as a share of the digit's height
    turn: float  # degrees, clockwise
    shadow: bool = False  # something stands between the lamp and a part of the sheet


SCENES = (
    Scene("0_marker_on_paper.jpg", "0_oval", "marker", "paper", (480, 480), 0.62, 0.11, 8),
    Scene("0_chalk_on_blackboard.jpg", "0_narrow", "chalk", "blackboard", (640, 480), 0.60, 0.12, 24),
    Scene("1_blue_pen_ruled.jpg", "1_slant", "blue", "ruled", (360, 480), 0.66, 0.10, -9, True),
    Scene("1_white_on_kraft.jpg", "1_steep", "white", "kraft", (400, 400), 0.62, 0.12, 27),
    Scene("2_red_on_cream.jpg", "2_plain", "red", "cream", (480, 480), 0.60, 0.10, -18),
    Scene("2_chalk_on_greenboard.jpg", "2_loop", "chalk", "greenboard", (640, 480), 0.60, 0.10, 12),
    Scene("3_chalk_tilted.jpg", "3_round", "chalk", "greenboard", (480, 480), 0.62, 0.11, 34),
    Scene("3_blue_pen_graph_paper.jpg", "3_loose", "blue", "graph", (480, 640), 0.58, 0.10, -14, True),
    Scene("4_marker_on_kraft.jpg", "4_open", "marker", "kraft", (640, 480), 0.62, 0.11, -26),
    Scene("4_white_on_blue_card.png", "4_closed", "white", "card", (224, 224), 0.60, 0.10, 15),
    Scene("5_green_pen_shadow.jpg", "5_capped", "green", "paper", (480, 360), 0.62, 0.10, 10, True),
    Scene("5_yellow_chalk_tilted.jpg", "5_flowing", "yellow_chalk", "blackboard", (400, 400), 0.60, 0.12, -31),
    Scene("6_marker_on_wood.jpg", "6_curl", "marker", "wood", (640, 480), 0.60, 0.12, 15),
    Scene("6_blue_pen_ruled.jpg", "6_straight", "blue", "ruled", (400, 400), 0.55, 0.10, -20),
    Scene("7_red_graph_paper.jpg", "7_plain", "red", "graph", (480, 480), 0.62, 0.10, 21),
    Scene("7_white_on_dark_wood.jpg", "7_hooked", "white", "dark_wood", (360, 480), 0.64, 0.11, -17),
    Scene("8_crayon_on_cream.jpg", "8_round", "crayon", "cream", (480, 480), 0.62, 0.11, -36),
    Scene("8_chalk_on_blackboard.jpg", "8_slant", "chalk", "blackboard", (360, 480), 0.66, 0.10, 5, True),
    Scene("9_marker_on_sticky_note.jpg", "9_straight", "marker", "sticky", (640, 480), 0.54, 0.10, 18),
    Scene("9_pencil_on_paper.png", "9_curved", "pencil", "paper", (224, 224), 0.62, 0.09, -12, True),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write every picture; 0 = all written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=SAMPLES, help="folder to fill (default: %(default)s)")
    output: Path = parser.parse_args(argv).output
    output.mkdir(parents=True, exist_ok=True)
    for index, scene in enumerate(SCENES):
        # A generator for each, so that a changed scene leaves the others as they are.
        picture = photograph(scene, np.random.default_rng([SEED, index]))
        pixels = cv2.cvtColor(np.round(picture * 255).astype(np.uint8), cv2.COLOR_RGB2BGR)
        path = output / scene.file
        if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90] if path.suffix == ".jpg" else []):
            raise OSError(f"{path}: could not be written")
        sys.stderr.write(f"{path}\n")
    return 0


def photograph(scene: Scene, rng: Generator) -> Picture:
    """Return the picture of a scene, (height, width, 3) in [0, 1]."""
    width, height = scene.size
    side = 2 * max(width, height)  # the sheet reaches beyond the view, however it is turned
    sheet, ink = SURFACES[scene.surface](rng, side), INKS[scene.ink]
    # Grainy ink misses the hollows of the sheet and comes off in patches; wet ink only varies in density.
    tooth = 0.35 * _mottle(rng, side, 1.4) + 0.25 * _mottle(rng, side, 3, 2) + 0.2 * _mottle(rng, side, 14)
    density = np.clip(1.05 - ink.grain * (0.42 - 0.75 * tooth), 0, 0.97)
    cover = (_written(scene, rng, side) * density)[..., None]
    sheet = sheet * (1 - cover) + np.array(ink.colour) * cover

    half, view = min(width, height) / 2, np.array((width, height), np.float32)
    angle = math.radians(scene.turn)
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    seen = (CORNERS + rng.uniform(-0.09, 0.09, (4, 2))) @ turn * half + view / 2 + rng.uniform(-0.06, 0.06, 2) * half
    lens = cv2.getPerspectiveTransform(CORNERS * half + side / 2, seen.astype(np.float32))
    picture = cv2.warpPerspective(sheet, lens, scene.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    picture = picture * _light(rng, height, width, scene.shadow)[..., None] * rng.uniform(0.97, 1.02, 3)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.0) * half / 240)
    grey = cv2.GaussianBlur(rng.normal(0, 0.016, (height, width)), (0, 0), 0.6)
    return np.clip(picture + grey[..., None], 0, 1)


def _written(scene: Scene, rng: Generator, side: int) -> Picture:
    """Return how much ink covers each pixel of the sheet, (side, side) in [0, 1]; the digit is in the middle."""
    scale = 2  # drawn larger, then averaged
    height = scene.height * min(scene.size) * scale
    mask = np.zeros((side * scale, side * scale), np.uint8)
    waves, phases = rng.normal(0, 4, (2, 2)), rng.uniform(0, 2 * math.pi, 3)
    for stroke in STROKES[scene.strokes].split("/"):
        points = np.array([pair.split(",") for pair in stroke.split()], np.float64) / 100 - 0.5
        # The hand wavers: points close together move together, so that strokes that meet still meet.
        points = points + 0.022 * np.sin(points @ waves + phases[:2])
        ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
        powers = np.linspace(0, 1, 60)[:, None] ** np.arange(4)
        path = np.concatenate([powers @ SPLINE @ ends[start : start + 4] for start in range(len(points) - 1)])
        along = np.linspace(0, 1, len(path))
        pressure = 1 + 0.16 * np.sin(along * rng.uniform(3, 8) + phases[2]) - 0.3 * np.clip(along - 0.8, 0, 1) / 0.2
        for (x, y), radius in zip(path * height + side, pressure * scene.pen * height / 2, strict=True):
            cv2.circle(mask, (round(x * 16), round(y * 16)), round(radius * 16), 255, -1, cv2.LINE_AA, 4)
    small: Picture = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) / 255
    ragged: Picture = cv2.GaussianBlur(small, (0, 0), 1.2) + 0.16 * INKS[scene.ink].grain * _mottle(rng, side, 1.5)
    return np.clip((ragged * 2 - 0.5) * (small > 0), 0, 1)


def _mottle(rng: Generator, side: int, cell: float, stretch: float = 1) -> Picture:
    """Return blotches ``cell`` pixels high and ``stretch`` times as wide, (side, side), mean 0 and deviation 1."""
    coarse = rng.normal(0, 1, (max(3, round(side / cell)), max(3, round(side / cell / stretch))))
    blotches: Picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return (blotches - float(blotches.mean())) / float(blotches.std())


def _light(rng: Generator, height: int, width: int, shadow: bool) -> Picture:
    """Return the brightness of the light, (height, width): a slope, a vignette and perhaps a soft-edged shadow."""
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    toward = rng.uniform(0, 2 * math.pi)
    slope = x * math.cos(toward) + y * math.sin(toward)
    light = 0.95 + rng.uniform(0.08, 0.2) * slope - rng.uniform(0.05, 0.13) * (x * x + y * y)
    if shadow:
        across = x * math.cos(toward + 1) + y * math.sin(toward + 1) + 0.15 * np.sin(3 * slope)
        light = light * (1 - 0.38 / (1 + np.exp(-(across - 0.15) * 14)))
    return light


def _paper(rng: Generator, side: int, colour: Colour, rough: float = 0.008) -> Picture:
    grain = _mottle(rng, side, 1.5) + _mottle(rng, side, 5) + 0.8 * _mottle(rng, side, 90)
    return np.array(colour) + rough * grain[..., None]


def _lined(rng: Generator, side: int, columns: bool) -> Picture:
    """Return ruled paper with a red margin, or graph paper if it has ``columns``."""
    sheet = _paper(rng, side, (0.93, 0.93, 0.90))
    blue, red = np.array((0.79, 0.87, 0.97)), np.array((0.98, 0.74, 0.75))
    count, thick = 26 if columns else 16, max(1, side // 600)
    for at in np.arange(1, count) * side // count:
        sheet[at : at + thick] *= blue
        sheet[:, at : at + thick] *= blue if columns else 1
    if not columns:
        sheet[:, side * 5 // 16 : side * 5 // 16 + 2 * thick] *= red
    return sheet


def _kraft(rng: Generator, side: int) -> Picture:
    """Return brown wrapping paper with fibres in it, dark and light, along and across."""
    fibres = np.clip(_mottle(rng, side, 2, 8), -9, -1.6) + np.clip(_mottle(rng, side, 2, 8).T, 1.6, 9)
    return _paper(rng, side, (0.69, 0.54, 0.38), 0.014) + 0.05 * fibres[..., None]


def _board(rng: Generator, side: int, colour: Colour) -> Picture:
    """Return a chalkboard that was wiped, not washed."""
    smears = np.clip(_mottle(rng, side, side / 60, 9) + _mottle(rng, side, side / 7, 2) - 0.2, 0, 3)
    dust = np.clip(_mottle(rng, side, 1.5) - 1.9, 0, 1) * 0.12
    swept = cv2.warpAffine(smears, cv2.getRotationMatrix2D((side / 2, side / 2), 25, 1.5), (side, side))
    return _paper(rng, side, colour, 0.006) + (0.035 * swept + dust)[..., None]


def _wood(rng: Generator, side: int, colour: Colour) -> Picture:
    bend = np.linspace(0, 1, side)[:, None] + 0.02 * _mottle(rng, side, side / 5, 3)
    rings = np.sin(bend * 130) + 0.6 * np.sin(bend * 310 + 1)
    figure = 0.045 * rings + 0.03 * _mottle(rng, side, 2, 40) + 0.02 * _mottle(rng, side, side / 6, 4)
    return np.array(colour) * (1 + figure[..., None])


def _sticky(rng: Generator, side: int) -> Picture:
    """Return a yellow note on a desk; the note casts a little shadow."""
    desk = _wood(rng, side, (0.50, 0.36, 0.25))
    note = np.zeros((side, side, 1))
    note[round(0.36 * side) : round(0.64 * side), round(0.36 * side) : round(0.64 * side)] = 1
    shadow = np.roll(cv2.GaussianBlur(note, (0, 0), side / 150), side // 130, axis=(0, 1))[..., None]
    return desk * (1 - 0.45 * shadow) * (1 - note) + _paper(rng, side, (0.96, 0.87, 0.46)) * note


SURFACES: dict[str, Callable[[Generator, int], Picture]] = {
    "paper": lambda rng, side: _paper(rng, side, (0.90, 0.90, 0.88)),
    "cream": lambda rng, side: _paper(rng, side, (0.95, 0.89, 0.76), 0.012),
    "card": lambda rng, side: _paper(rng, side, (0.13, 0.20, 0.36)),
    "ruled": lambda rng, side: _lined(rng, side, columns=False),
    "graph": lambda rng, side: _lined(rng, side, columns=True),
    "kraft": _kraft,
    "greenboard": lambda rng, side: _board(rng, side, (0.15, 0.29, 0.23)),
    "blackboard": lambda rng, side: _board(rng, side, (0.14, 0.15, 0.15)),
    "wood": lambda rng, side: _wood(rng, side, (0.78, 0.61, 0.42)),
    "dark_wood": lambda rng, side: _wood(rng, side, (0.33, 0.21, 0.14)),
    "sticky": _sticky,
}


if __name__ == "__main__":
    sys.exit(main())
