"""Values of the command line, each checked with one sentence."""

import argparse
import difflib
import math
from collections.abc import Callable, Iterable
from pathlib import Path

MOST_THREADS = 256


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names what a misspelt name may mean; empty when nothing is near."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def whole(most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number from 1 to ``most``."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0
        if value < 1 or (most is not None and value > most):
            limits = "of at least 1" if most is None else f"from 1 to {most}"
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, got '{text}'")
        return value

    return read


def above_zero(most: float | None = None) -> Callable[[str], float]:
    """Return what reads a number above 0, at most ``most``."""

    def read(text: str) -> float:
        value = _number(text)
        if not 0 < value <= (most if most is not None else value) or value == math.inf:
            limit = "" if most is None else f", at most {most:g}"
            raise argparse.ArgumentTypeError(f"must be a number above 0{limit}, got '{text}'")
        return value

    return read


def text(value: str) -> str:
    """Read what may not be empty, as an unset variable of the shell is."""
    if not value.strip():
        raise argparse.ArgumentTypeError("is empty")
    return value


def place(value: str) -> Path:
    """Read the path of a file or folder."""
    return Path(text(value))


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, got '{text}'")
    return value


def size(text: str) -> tuple[int, int]:
    """Read a width and height in pixels, such as 1280x720."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT in pixels, such as 1280x720, got '{text}'")
    return int(width), int(height)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
