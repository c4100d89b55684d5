"""Photographs without a digit that scikit-image and scikit-learn carry, and a camera that pans over a picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
_FILES = {
    "skimage": (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "moon.png",
        "motorcycle_left.png",
        "page.png",  # printed text
        "rocket.jpg",
    ),
    "sklearn": ("china.jpg", "flower.jpg"),
}


def find_photographs() -> dict[str, Picture]:
    """Return the photographs of the packages that are installed, RGB by name; neither package is imported."""
    found = {}
    for package, names in _FILES.items():
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or () if spec is not None else ():
            for name in names:
                picture = cv2.imread(str(Path(folder) / _FOLDERS[package] / name))
                if picture is not None:
                    found[Path(name).stem] = np.ascontiguousarray(picture[:, :, ::-1])
    return found


@dataclass(frozen=True)
class Sway:
    """A slow movement to and fro that does not repeat within minutes."""

    phases: tuple[float, float]
    periods: tuple[float, float]  # seconds

    @classmethod
    def draw(cls, random: Generator, slowest: float) -> "Sway":
        """Return a movement whose slower part takes about ``slowest`` seconds."""
        one, other = slowest * random.uniform(0.8, 1.2), slowest * random.uniform(0.3, 0.45)
        return cls((random.uniform(0, 2 * np.pi), random.uniform(0, 2 * np.pi)), (one, other))

    def at(self, moment: float) -> float:
        """Return where it is at a moment in seconds, from -1 to 1."""
        turns = [np.sin(2 * np.pi * moment / self.periods[part] + self.phases[part]) for part in (0, 1)]
        return float(0.65 * turns[0] + 0.35 * turns[1])


def pan(picture: Picture, size: tuple[int, int], seconds: float, rate: int, random: Generator) -> Iterator[Picture]:
    """Yield what a camera sees that moves slowly over a picture and zooms: frames of ``size`` (height, width), RGB."""
    height, width = size
    across, down, zoom = (Sway.draw(random, slowest) for slowest in (24, 31, 19))
    largest = min(picture.shape[0] / height, picture.shape[1] / width)  # pixels of the picture per pixel of a frame
    for number in range(round(seconds * rate)):
        moment = number / rate
        scale = largest * (0.65 + 0.3 * zoom.at(moment))
        left = (picture.shape[1] - scale * width) / 2 * (1 + across.at(moment))
        top = (picture.shape[0] - scale * height) / 2 * (1 + down.at(moment))
        matrix = np.array([(scale, 0, left), (0, scale, top)])
        yield cv2.warpAffine(
            picture,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
